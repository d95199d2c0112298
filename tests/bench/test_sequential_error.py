"""The simulation of the sequential tests, and what its committed results say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.sequential_error import RESULTS, Case, cases, markdown, outcome

WITHIN = [case for case in cases() if case.samples <= 1000]


def rows() -> list[dict]:
    return json.loads(Path(RESULTS / "sequential-error.json").read_text(encoding="utf-8"))


def test_every_case_was_simulated_and_its_error_is_within_the_stated_level():
    """Up to the noise of counting: an error at its level exceeds it in every second simulation."""
    assert [Case(**row["case"]) for row in rows()] == list(cases())
    for row in rows():
        case = Case(**row["case"])
        allowed = (1 - case.confidence) * case.runs
        assert row["wrong"] <= allowed + 3 * math.sqrt(allowed), row


@pytest.mark.parametrize("case", [case for case in WITHIN if case.test == "betting"][::4], ids=str)
def test_a_short_simulation_agrees(case: Case):
    found = outcome(replace(case, runs=40, confidence=0.95))
    assert found.wrong <= 0.05 * 40 + 3 * math.sqrt(0.05 * 40)
    assert 128 <= found.mean_samples <= case.samples
    assert str(found.wrong) in markdown([found])
