"""A part of `make fuzz`: damaged inputs end in success or one sentence, and nothing is written elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.case import run_case
from tests.fuzz.inputs import TARGETS, write_inputs

CASES = 25
"""Of each command; 300 in all."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, before = tmp_path_factory.mktemp("sound"), Path.cwd()
    os.chdir(folder)
    write_inputs(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize(
    "number", range(len(TARGETS)), ids=lambda n: " ".join((TARGETS[n].command[0], TARGETS[n].file))
)
def test_damaged_inputs_end_in_success_or_one_sentence(number: int, sound: Path) -> None:
    outcomes = [run_case(1000 * number + seed, sound, number) for seed in range(CASES)]
    os.chdir(sound)
    assert [outcome for outcome in outcomes if outcome.fault] == []
