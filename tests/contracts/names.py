"""Every TensorRT name a source file uses, read from its syntax alone: the second net below the type checker.

A name is used plainly, as in `trt.BuilderFlag.TF32`, or asked for by a string, as in
`getattr(trt.BuilderFlag, "STRIP_PLAN", None)`, which no type checker looks into.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

FLAVOUR = "trt_mpq.runtime.tensorrt.flavour"
"""The module that gives the TensorRT in use as `trt`."""
ASKING = frozenset({"getattr", "hasattr"})


@dataclass(frozen=True)
class Use:
    """One name, without the leading `trt.`, and where it is used."""

    chain: str
    line: int
    asked: bool
    """It was asked for by a string."""
    guarded: bool = False
    """It is used plainly where the same function also asks for it."""


@dataclass(frozen=True)
class Dynamic:
    """A name asked for by an expression this reader cannot follow."""

    owner: str
    expression: str
    line: int


def asking_functions(source: str) -> frozenset[str]:
    """Functions that ask their first parameter for names given by the others, as `getattr` does."""
    return frozenset(
        function.name
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef) and function.args.args
        if any(
            isinstance(call.args[0], ast.Name) and call.args[0].id == function.args.args[0].arg
            for call in ast.walk(function)
            if _called(call) in ASKING and isinstance(call, ast.Call)
        )
    )


def uses(source: str, asking: Collection[str] = ASKING) -> tuple[list[Use], list[Dynamic]]:
    """Names of TensorRT's API in a file, and those that were asked for in a way that cannot be read.

    Args:
        source: Text of the file.
        asking: Names of functions that take an object and names to look for in it.
    """
    tree = ast.parse(source)
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    inner = {id(each) for function in functions for each in ast.walk(function) if each is not function}
    outermost = [function for function in functions if id(function) not in inner]
    in_functions = {id(each) for function in outermost for each in ast.walk(function)}
    rest = [each for each in ast.walk(tree) if id(each) not in in_functions]
    found: list[Use] = []
    dynamic: list[Dynamic] = []
    for nodes in (rest, *(list(ast.walk(function)) for function in outermost)):
        scope = _Scope(nodes, rest)
        asked, unread = scope.asked(asking)
        plain = scope.plain()
        names = tuple(use.chain for use in asked if use.asked)
        found += asked
        found += [Use(use.chain, use.line, False, _starts_with_any(use.chain, names)) for use in plain]
        dynamic += unread
    return found, dynamic


class _Scope:
    """One outermost function, or what is outside of all."""

    def __init__(self, nodes: list[ast.AST], module: list[ast.AST]) -> None:
        self.nodes = nodes
        self.roots = {
            alias.asname or alias.name
            for node in (*module, *nodes)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "tensorrt"
        } | {
            alias.asname or alias.name
            for node in (*module, *nodes)
            if isinstance(node, ast.ImportFrom) and node.module == FLAVOUR
            for alias in node.names
            if alias.name == "trt"
        }
        self.values: dict[str, list[ast.expr]] = {}
        for node in (*module, *nodes):
            for name, value in _bindings(node):
                self.values.setdefault(name, []).append(value)
        self.types: dict[str, ast.expr] = {}
        for node in nodes:
            if isinstance(node, ast.arg) and node.annotation is not None:
                self.types[node.arg] = node.annotation
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.types[node.target.id] = node.annotation

    def plain(self) -> list[Use]:
        """Every longest chain of attributes that starts at the module."""
        attributes = [node for node in self.nodes if isinstance(node, ast.Attribute)]
        inner = {id(node.value) for node in attributes}
        chains = ((self._chain(node), node.lineno) for node in attributes if id(node) not in inner)
        return [Use(chain, line, asked=False) for chain, line in chains if chain]

    def asked(self, asking: Collection[str]) -> tuple[list[Use], list[Dynamic]]:
        """Names asked for by a string, and what could not be read; `getattr` without a default asks nothing."""
        found: list[Use] = []
        dynamic: list[Dynamic] = []
        for call in self.nodes:
            if not isinstance(call, ast.Call) or _called(call) not in asking or len(call.args) < 2:
                continue
            owner = self._owner(call.args[0])
            if owner is None:
                continue
            asked = _called(call) != "getattr" or len(call.args) > 2
            for given in call.args[1:2] if _called(call) in ASKING else call.args[1:]:
                names = self._strings(given, frozenset())
                found += [Use(f"{owner}.{name}".lstrip("."), call.lineno, asked) for name in names]
                if not names:
                    dynamic.append(Dynamic(owner, ast.unparse(given), call.lineno))
        return found, dynamic

    def _chain(self, node: ast.expr) -> str | None:
        """What follows the module in `trt.A.b`; empty for the module itself."""
        if isinstance(node, ast.Attribute):
            owner = self._chain(node.value)
            return None if owner is None else f"{owner}.{node.attr}".lstrip(".")
        is_module = (isinstance(node, ast.Name) and node.id in self.roots) or _called(node) == "load_tensorrt"
        if is_module:
            return ""
        values = self.values.get(node.id, []) if isinstance(node, ast.Name) else []
        return self._chain(values[0]) if len(values) == 1 and not isinstance(values[0], ast.Name) else None

    def _owner(self, node: ast.expr) -> str | None:
        """The class a name is asked of: a chain, or a variable annotated with one or made by calling it."""
        if isinstance(node, ast.Name) and node.id in self.types:
            return self._chain(self.types[node.id]) or None
        made = self.values.get(node.id, []) if isinstance(node, ast.Name) else []
        if len(made) == 1 and isinstance(made[0], ast.Call) and isinstance(made[0].func, ast.Attribute):
            return self._chain(made[0].func)
        return self._chain(node)

    def _strings(self, node: ast.AST, seen: frozenset[str]) -> list[str]:
        """All strings an expression can be made of, leaving out what it only compares with."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            return []  # its parts are no names
        if isinstance(node, ast.Name) and node.id not in seen:
            values = self.values.get(node.id, [])
            return [text for value in values for text in self._strings(value, seen | {node.id})]
        parts = (part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.Compare))
        return [text for part in parts for text in self._strings(part, seen)]


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names a node binds and the expressions their values come from."""
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, (ast.For, ast.comprehension)):
        targets, value = [node.target], node.iter
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        targets, value = [node.target], node.value
    else:
        return
    for target in targets:
        for each in ast.walk(target):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                yield each.id, value


def _called(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _starts_with_any(chain: str, prefixes: Collection[str]) -> bool:
    return any(chain == prefix or chain.startswith(f"{prefix}.") for prefix in prefixes)
