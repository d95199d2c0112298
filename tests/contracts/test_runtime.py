"""The product's calls into TensorRT against every version it supports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from tests.contracts.facts import VERSIONS, api
from tests.contracts.names import ASKING, Dynamic, Use, asking_functions, uses
from tests.contracts.typecheck import PRODUCT, ROOT, WEAK_TYPING, Verdict, versions_of
from trt_mpq.latency.target import RTX_SM
from trt_mpq.settings import EngineOptions

FILES = sorted(PRODUCT.rglob("*.py"))

COMPATIBILITY_LEVELS = {
    level.upper() for level in get_args(get_type_hints(EngineOptions)["hardware_compatible"]) if level != "none"
}
DYNAMIC = {
    ("config.py", "HardwareCompatibilityLevel", "wanted.upper()"): COMPATIBILITY_LEVELS,
    ("ahead_of_time.py", "ComputeCapability", "f'SM{sm}'"): {f"SM{sm}" for sm in RTX_SM},
}
"""Names built from settings: which ones they can be, by file, class and expression."""


def read(file: Path) -> tuple[list[Use], list[Dynamic]]:
    asking = ASKING | asking_functions((PRODUCT / "api.py").read_text())
    return uses(file.read_text(), asking)


def test_it_type_checks(verdict: Verdict) -> None:
    assert verdict.product == []


def test_there_is_something_to_check() -> None:
    found = {use.chain for file in FILES for use in read(file)[0]}

    assert {"Builder", "ICudaEngine", "BuilderFlag.FP16", "ILayer"} <= found
    assert {PRODUCT / name for name in WEAK_TYPING} <= set(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_name_exists_where_it_is_used(file: Path) -> None:
    wanted, known = versions_of(file), [use for use in read(file)[0] if not (use.asked or use.guarded)]

    missing = {f"{use.chain}, line {use.line}": [v for v in wanted if not api(v).has(use.chain)] for use in known}

    assert {use: versions for use, versions in missing.items() if versions} == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_name_asked_for_exists_somewhere(file: Path) -> None:
    wanted, asked = versions_of(file), [use for use in read(file)[0] if use.asked or use.guarded]

    assert [use for use in asked if not any(api(version).has(use.chain) for version in wanted)] == []


def test_no_builder_flag_asks_for_bf16() -> None:
    """It comes with the types of the network; the eleventh version has no such flag, and 8.6 not even the type."""
    assert not [use for file in FILES for use in read(file)[0] if use.chain == "BuilderFlag.BF16"]


def test_names_built_from_settings_exist_somewhere() -> None:
    unread = {(file.name, each.owner, each.expression) for file in FILES for each in read(file)[1]}

    assert unread == set(DYNAMIC)
    for (_, owner, _), names in DYNAMIC.items():
        for name in names:
            assert any(api(version).has(f"{owner}.{name}") for version in VERSIONS), f"{owner}.{name}"


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module


def test_nothing_else_imports_tensorrt() -> None:
    others = [file for file in sorted((ROOT / "trt_mpq").rglob("*.py")) if PRODUCT not in file.parents]
    modules = {file.name: set(imported_modules(ast.parse(file.read_text()))) for file in others}

    assert [name for name, imported in modules.items() if "tensorrt" in imported] == []


def test_the_module_is_used_under_its_import_only() -> None:
    """`trt = load_tensorrt()` would hide every name from the type checker; only `api.py`, which asks, may do so."""
    loads = [
        file.name
        for file in FILES
        if file.name != "api.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name) and node.value.func.id == "load_tensorrt"
    ]

    assert loads == []


def test_all_compute_capabilities_of_rtx_are_known() -> None:
    named = {name for name in api("rtx-1.7").members("ComputeCapability") if name.startswith("SM")}

    assert named == {f"SM{sm}" for sm in RTX_SM}
