"""Lint says of a graph what NVIDIA's compiler makes of it: the committed table holds on this machine."""

from __future__ import annotations

import json

import pytest

from bench.lint_truth import ELSEWHERE, RESULTS, Verdict, agrees, sound, verdicts
from tests.compiler import NEEDS_RTX
from tests.lint.cases import PAIRS
from trt_mpq.lint import RULES, Severity

RECORDED = {
    rule: tuple(Verdict(**one) for one in each) for rule, each in json.loads(RESULTS.read_text())["verdicts"].items()
}


def test_every_pair_has_a_verdict() -> None:
    assert {rule: len(each) for rule, each in RECORDED.items()} == {rule: len(each) for rule, each in PAIRS.items()}


@pytest.mark.parametrize(("severity", "rule"), [(severity, rule) for severity in RULES for rule in RULES[severity]])
def test_a_severity_is_what_the_compiler_says_or_rests_on_a_document(severity: Severity, rule: str) -> None:
    assert agrees(severity, RECORDED[rule]) or rule in ELSEWHERE


@NEEDS_RTX
def test_the_compiler_gives_the_recorded_verdicts() -> None:
    found = {rule: [one.verdict for one in each] for rule, each in verdicts().items()}
    assert found == {rule: [one.verdict for one in each] for rule, each in RECORDED.items()}


@NEEDS_RTX
def test_the_compiler_takes_what_lint_says_nothing_about() -> None:
    assert sound() == {}
