"""Whatever the user's own metric does, a run ends with a plan or one sentence, and its result is JSON alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli import odd_metrics
from tests.cli.odd_metrics import FAIL, WORK
from tests.networks import mlp, sample_input

OPTIONS = (
    "--search", "uniform", "--no-engine", "--no-compile", "--threads", "1", "--no-bias-correction", "--calibration",
    "minmax", "--json",
)  # fmt: skip
LIMIT_S = "3"


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    result: str
    said: str


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    here = tmp_path_factory.mktemp("metrics")
    onnx.save(mlp(), here / "net.onnx")
    np.savez(here / "data.npz", **sample_input(mlp(), 16))
    shutil.copy(odd_metrics.__file__, here / "odd.py")
    cases = {
        name: ["build", "net.onnx", "--calib", "data.npz", *OPTIONS, "--metric", f"odd:{name}", "-o", f"run-{name}"]
        for name in (*WORK, *FAIL)
    }
    cases["hangs"] += ["--metric-timeout", LIMIT_S]
    (here / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    path = os.pathsep.join((str(Path(__file__).parents[2]), *filter(None, sys.path)))
    command = [sys.executable, "-m", "tests.cli.forked", "cases.json"]
    done = subprocess.run(
        command, cwd=here, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True, check=True
    )
    return {
        name: Ended(code, *((here / f"{name}.{kind}").read_text(errors="replace") for kind in ("out", "err")))
        for name, code in json.loads(done.stdout).items()
    }


@pytest.mark.parametrize("name", WORK)
def test_a_metric_that_scores_leaves_the_result_alone(name: str, endings: dict[str, Ended]) -> None:
    ended = endings[name]
    assert ended.code == 0, ended.said
    assert json.loads(ended.result)["accuracy"]["metric"] == f"odd:{name}"
    assert "Traceback" not in ended.said or name == "fails_in_a_thread"


@pytest.mark.parametrize("name", FAIL)
def test_a_metric_that_does_not_is_one_sentence(name: str, endings: dict[str, Ended]) -> None:
    ended = endings[name]
    assert (ended.code, ended.result) == (2, ""), ended.said
    assert ended.said.count("error: ") == 1
    [sentence] = (line for line in ended.said.splitlines() if line.startswith("error: "))
    assert sentence.startswith(f"error: metric odd:{name} ")
    assert len(sentence) < 1100
    assert "\x1b" not in ended.said
