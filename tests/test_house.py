"""The house as ARCHITECTURE.md draws it, read from the imports."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "trt_mpq"
HEAVY = {"onnxruntime", "tensorrt", "tensorrt_rtx_bindings", "pycuda", "torch", "polygraphy", "pynvml"}
MODULES = sorted(HOUSE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module of ours and of others that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from trt_mpq.report import html` names a module, `from trt_mpq.report import Report` does not
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if is_module(name)}
            found |= modules or {node.module}
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("trt_mpq.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def in_order(leads: dict[str, set[str]]) -> list[str]:
    """Every name after those it leads to; fails where a circle joins some."""
    order: list[str] = []
    while leads:
        free = [name for name, behind in leads.items() if behind <= set(order)]
        assert free, f"a circle joins some of {sorted(leads)}"
        order += free
        leads = {name: behind for name, behind in leads.items() if name not in free}
    return order


def test_no_circle_joins_rooms() -> None:
    leads: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        theirs = {name.split(".")[1] for name in imports(path) if name.startswith("trt_mpq.")}
        leads[room(path)] |= theirs - {room(path)}
    in_order(leads)
    floors = re.search(
        r"From the ground up:(.*?)\.\n", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert floors
    order = re.findall(r"[\w_]+", floors[1])
    assert sorted(order) == sorted(set(leads) - {"__init__", "__main__"})
    for number, name in enumerate(order):
        assert leads[name] <= {"__init__", *order[:number]}, f"{name} knows a room above it"


def test_no_circle_joins_files() -> None:
    """Not even one of types: who needs the other's type for a signature leans on it.

    The front page is no file of the flow: it only names what others hold, and is asked by them for the version.
    """
    ours = {dotted(path): path for path in MODULES if path != HOUSE / "__init__.py"}
    in_order({name: imports(path) & set(ours) - {name} for name, path in ours.items()})


def test_only_the_interface_knows_the_pipeline() -> None:
    """Python programs and the command line come in by the same door, `api`."""
    knowing = {room(path) for path in MODULES if any(name.startswith("trt_mpq.pipeline") for name in imports(path))}
    assert knowing <= {"pipeline", "api"}


@pytest.mark.parametrize("room_name", ["search", "sensitivity", "refine", "calibrate", "evaluate", "emit", "groups"])
def test_maths_know_no_stage_and_no_setting(room_name: str) -> None:
    for path in (HOUSE / room_name).rglob("*.py"):
        assert not imports(path) & {"trt_mpq.artifacts.stage", "trt_mpq.artifacts.store", "trt_mpq.settings"}, path


def test_only_runtime_names_the_heavy_libraries() -> None:
    naming = {room(path) for path in MODULES if {name.split(".")[0] for name in imports(path)} & HEAVY}
    assert naming == {"runtime"}


def test_the_hallway_is_short_and_no_module_long() -> None:
    entries = {path.name for path in HOUSE.iterdir() if not path.name.startswith("__") and path.name != "py.typed"}
    assert len(entries) <= 28
    assert [path for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def code_lines(text: str) -> int:
    """Lines with code on them: neither empty, nor comment, nor docstring."""
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = (token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in layout)
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - documented)


def public_names(tree: ast.Module) -> int:
    """Functions, classes and constants of a module that others may ask for."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)]
    return sum(not name.startswith("_") for name in names)


def test_concepts_are_few_and_functions_short() -> None:
    texts = [path.read_text(encoding="utf-8") for path in MODULES]
    trees = [ast.parse(text) for text in texts]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lengths = [
        (node.end_lineno or 0) - ((node.body[0].end_lineno if ast.get_docstring(node) else node.lineno) or 0)
        for node in functions
    ]
    cached = [node for node in functions if any("cached_property" in ast.unparse(one) for one in node.decorator_list)]
    assert 1000 * sum(map(public_names, trees)) <= 45 * sum(map(code_lines, texts))
    assert median(lengths) <= 6
    assert len(cached) <= 15


def test_nobody_leans_on_too_many() -> None:
    counts = {path: sum(name.startswith("trt_mpq.") for name in imports(path)) for path in MODULES}
    assert {str(path): count for path, count in counts.items() if count > 15} == {}


def test_every_path_that_the_documents_name_exists() -> None:
    for document in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        named = set(re.findall(r"`((?:trt_mpq|engines|calib|docs|bench|tests|docker)/[^`\s*]*)`", text))
        assert named, document
        assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_architecture_has_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = {path.name + ("/" if path.is_dir() else "") for path in HOUSE.iterdir() if not path.name.startswith("__")}
    assert [name for name in sorted(rooms - {"py.typed"}) if f"`{name}`" not in text] == []


def test_no_value_is_a_set() -> None:
    """What is kept or digested has one spelling; the order of a set is another in every process."""
    fields = [
        f"{path.name}: {ast.unparse(node)}"
        for path in (HOUSE / "types").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for node in node.body
        if isinstance(node, ast.AnnAssign) and re.search(r"\b(frozen)?set\b", ast.unparse(node.annotation))
    ]
    assert fields == []
