"""Reading TensorRT names from syntax; the sources are small cases of what the product does."""

from __future__ import annotations

import pytest

from tests.contracts.facts import VERSIONS, api
from tests.contracts.names import ASKING, FLAVOUR, Dynamic, Use, asking_functions, uses

PRELUDE = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import tensorrt as trt
"""


def read(body: str, asking: frozenset[str] = ASKING) -> tuple[set[tuple[str, str]], list[Dynamic]]:
    """Names with how they are used."""
    found, dynamic = uses(PRELUDE + body, asking)
    return {(use.chain, kind(use)) for use in found}, dynamic


def kind(use: Use) -> str:
    """How a name is used, in a word."""
    return "asked" if use.asked else "guarded" if use.guarded else "plain"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = trt.BuilderFlag.FP16", {("BuilderFlag.FP16", "plain")}),
        ("def f(a: trt.ILogger.Severity) -> None: pass", {("ILogger.Severity", "plain")}),
        ("def f():\n    import tensorrt as t\n    return t.Builder(t.ILogger.ERROR)", {("Builder", "plain")}),
        ("def f():\n    import tensorrt\n    return tensorrt.Builder", {("Builder", "plain")}),
        (f"def f():\n    from {FLAVOUR} import trt as t\n    return t.Builder", {("Builder", "plain")}),
        ("def f():\n    return load_tensorrt().__version__", {("__version__", "plain")}),
        ("def f():\n    t = load_tensorrt()\n    return t.Runtime", {("Runtime", "plain")}),
        ("def f():\n    flags = trt.BuilderFlag\n    return flags.DEBUG", {("BuilderFlag.DEBUG", "plain")}),
        ("x = hasattr(trt.BuilderFlag, 'FP4')", {("BuilderFlag.FP4", "asked")}),
        ("x = hasattr(trt, 'OnnxParserFlag')", {("OnnxParserFlag", "asked")}),
        ("x = getattr(trt.BuilderFlag, 'FP4', None)", {("BuilderFlag.FP4", "asked")}),
        ("x = getattr(trt.BuilderFlag, 'FP4')", {("BuilderFlag.FP4", "plain")}),
        (
            "def f(e: trt.ParserError) -> bool:\n    return hasattr(e, 'node_name')",
            {("ParserError.node_name", "asked")},
        ),
        ("def f(x):\n    p = trt.OnnxParser(x)\n    return hasattr(p, 'flags')", {("OnnxParser.flags", "asked")}),
        (
            "NAMES = ('FP8', 'INT4')\ndef f():\n    return [hasattr(trt.BuilderFlag, n) for n in NAMES]",
            {("BuilderFlag.FP8", "asked"), ("BuilderFlag.INT4", "asked")},
        ),
        (
            "def f(mode):\n    n = 'FP8' if mode == 'eight' else 'INT4'\n    return hasattr(trt.BuilderFlag, n)",
            {("BuilderFlag.FP8", "asked"), ("BuilderFlag.INT4", "asked")},
        ),
        (
            "def f():\n    if hasattr(trt, 'A'):\n        return trt.A.B\n    return trt.C",
            {("A", "asked"), ("A.B", "guarded"), ("C", "plain")},
        ),
        ("def f():\n    hasattr(trt, 'A')\ndef g():\n    trt.A", {("A", "asked"), ("A", "plain")}),
        ("def f(trt2):\n    return trt2.A, 'trt.B'  # trt.C", set()),
    ],
)
def test_names_are_found(body: str, expected: set[tuple[str, str]]) -> None:
    found, dynamic = read(body)

    assert expected <= found
    assert {chain for chain, _ in found - expected} <= {"BuilderFlag", "OnnxParser", "ILogger.ERROR", "ParserError"}
    assert dynamic == []


def test_functions_that_ask_for_names_are_asked_themselves() -> None:
    helper = (
        "def bits(members, *names):\n    return [getattr(members, name, None) for name in names]\ndef other(a): pass"
    )
    assert asking_functions(helper) == {"bits"}

    found, dynamic = read(
        "def f(more):\n    names = ('B', 'C')\n    return bits(trt.A, 'X', *names)", ASKING | {"bits"}
    )

    assert found == {("A", "plain"), ("A.X", "asked"), ("A.B", "asked"), ("A.C", "asked")}
    assert dynamic == []


def test_a_name_that_cannot_be_read_is_reported() -> None:
    _, dynamic = read("def f(name):\n    return getattr(trt.A, name.upper(), None)")

    assert dynamic == [Dynamic("A", "name.upper()", 6)]


def test_a_name_made_of_parts_cannot_be_read() -> None:
    found, dynamic = read("def f(sm):\n    return getattr(trt.A, f'SM{sm}')")

    assert found == {("A", "plain")}
    assert dynamic == [Dynamic("A", "f'SM{sm}'", 6)]


@pytest.mark.parametrize(
    ("chain", "versions"),
    [
        ("BuilderFlag.FP16", ("8.6", "10.16")),
        ("BuilderFlag.FP61", ()),
        ("BuilderFlag.BF16", ("10.16",)),
        ("DataType.BF16", ("10.16", "11.4", "rtx-1.7")),
        ("BuilderFlag.TF32.name", ("8.6", "10.16", "11.4", "rtx-1.7")),
        ("OnnxParserFlag", ("10.16", "11.4", "rtx-1.7")),
        ("ILayer.precision", ("8.6", "10.16")),
        ("ILogger.Severity.ERROR", ("8.6", "10.16", "11.4", "rtx-1.7")),
        ("ILogger.Severity.EROR", ()),
        ("ILogger.__init__", ("8.6", "10.16", "11.4", "rtx-1.7")),
        ("init_libnvinfer_plugins", ("8.6", "10.16", "11.4", "rtx-1.7")),
        ("float16", ("8.6", "10.16", "11.4", "rtx-1.7")),
        ("bfloat16", ("10.16", "11.4", "rtx-1.7")),
        ("__version__", ("8.6", "10.16", "11.4", "rtx-1.7")),
        ("ComputeCapability.SM89", ("rtx-1.7",)),
        ("Biulder", ()),
    ],
)
def test_the_facts_know_a_name(chain: str, versions: tuple[str, ...]) -> None:
    assert tuple(version for version in VERSIONS if api(version).has(chain)) == versions
