"""The generated stubs are valid, complete, and refuse and let through what TensorRT does."""

from __future__ import annotations

import ast
import re

from tests.contracts.facts import api
from tests.contracts.stubs import stub_text
from tests.contracts.typecheck import SAMPLE, Verdict


def declared(body: list[ast.stmt]) -> set[str]:
    """Names a class body of a stub declares."""
    variables = {
        each.target.id for each in body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    return variables | {each.name for each in body if isinstance(each, (ast.FunctionDef, ast.ClassDef))}


def test_the_type_checker_accepts_the_stub(verdict: Verdict) -> None:
    assert verdict.stub == []


def test_the_stub_has_every_name_of_the_facts(version: str) -> None:
    classes = {each.name: each for each in ast.parse(stub_text(api(version))).body if isinstance(each, ast.ClassDef)}

    assert set(classes) == {"_Enum", *api(version).classes}
    for name in api(version).classes:
        names = declared(classes[name].body)
        inherits = {base.id for base in classes[name].bases if isinstance(base, ast.Name)}
        missing = api(version).members(name) - names
        assert missing <= (declared(classes["ILogger"].body) if "ILogger" in inherits else set()), name
        public = {each for each in names if not each.startswith("_")}
        assert public <= api(version).members(name), name


def test_layers_inherit_from_the_layer_in_every_version(version: str) -> None:
    text = stub_text(api(version))

    assert "class IConvolutionLayer(ILayer):" in text
    assert ("class IFullyConnectedLayer(ILayer):" in text) == (version == "8.6")


def test_only_interfaces_may_be_left_unset(version: str) -> None:
    text = stub_text(api(version))

    assert "def profiler(self) -> IProfiler | None: ..." in text
    assert "def resize_mode(self) -> InterpolationMode: ..." in text


def test_the_type_checker_refuses_exactly_the_marked_lines(version: str, verdict: Verdict) -> None:
    marks = (
        (number, re.search(r"# refused: (.+)", line)) for number, line in enumerate(SAMPLE.read_text().splitlines(), 1)
    )
    expected = {number for number, mark in marks if mark is not None and version in mark.group(1).split()}

    assert {line for line, _ in verdict.sample} == expected, verdict.sample
