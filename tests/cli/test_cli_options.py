"""Options and settings say the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from trt_mpq.calibrate.histogram import METHODS
from trt_mpq.cli import app, options
from trt_mpq.cli.build import build
from trt_mpq.cli.calibrate import calibrate
from trt_mpq.cli.compare import compare
from trt_mpq.cli.emit import emit
from trt_mpq.cli.engine import engine
from trt_mpq.cli.inspect import inspect as inspect_command
from trt_mpq.cli.measure import measure
from trt_mpq.cli.options import settings_given
from trt_mpq.cli.report import report
from trt_mpq.cli.search import search
from trt_mpq.cli.sensitivity import sensitivity
from trt_mpq.evaluate.metrics import METRIC_NAMES
from trt_mpq.search import SEARCHES
from trt_mpq.sensitivity import METRICS
from trt_mpq.settings import EngineOptions, Settings
from trt_mpq.types import Precision

COMMANDS = (build, inspect_command, calibrate, sensitivity, search, emit, compare, report, engine, measure)
LADDER = {str(p) for p in Precision if p is not Precision.FP32}
WORDED = {
    "calib": None,
    "eval": None,
    "model": None,
    "calib_samples": "all",
    "eval_samples": "all",
    "sensitivity_samples": "the metric's own",
    "trials": "the metric's own",
    "mix_formats": "off",
    "bias_correction": "on",
    "adaround": "off",
    "refine_plan": "on",
    "equalize": "off",
    "smooth": "off",
    "precisions": "fp16,int8",
    "sensitivity": "output-sqnr",
    "calibration": "mse,entropy,minmax,percentile",
    "target_latency": "none",
    "target_size": "none",
    "max_evaluations": "the algorithm's own",
    "max_seconds": "no limit",
    "keep": "none",
    "exclude": "none",
    "engine": "where a GPU and TensorRT are",
    "ray": "none",
}
"""Defaults that a person says in other words than Python."""


WORDED_ENGINE = {
    "shapes": "1 to the batch",
    "workspace_mib": "TensorRT's",
    "optimization_level": "TensorRT's",
    "timing_cache": "in the run folder",
    "version_compatible": "off",
    "refit": "off",
    "sparsity": "off",
    "tf32": "off",
    "dla_core": "the GPU alone",
    "plugins": "none",
    "cuda_graph": "on",
}
ENGINE_OPTIONS = [name for name in EngineOptions.model_fields if name != "build"]  # that one is --engine/--no-engine


def option(name: str) -> Any:
    """The Typer option for a setting."""
    return get_args(getattr(options, name.title().replace("_", "")))[1]


def test_every_setting_is_an_option_of_build() -> None:
    help_text = CliRunner().invoke(app, ["build", "--help"], env={"COLUMNS": "200"}).stdout
    offered = set(re.findall(r"--[\w-]+", help_text))
    assert {f"--{name.replace('_', '-')}" for name in Settings.model_fields} <= offered


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_no_option_overrides_unasked(command: Any) -> None:
    parameters = inspect.signature(command).parameters
    assert {parameters[name].default for name in set(parameters) & set(Settings.model_fields)} <= {None}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_help_states_the_default_of_the_settings(name: str) -> None:
    default = Settings.model_fields[name].default
    expected = WORDED.get(name, str(default))
    stated = re.search(r"\(default: ([^)]*)\)", option(name).help)
    assert (stated and stated[1].split(", ")[0]) == expected


def test_defaults_in_words_are_true() -> None:
    fields = {name: Settings.model_fields[name].default for name in WORDED if name != "model"}
    for name in ("precisions", "sensitivity", "calibration"):
        assert ",".join(fields.pop(name)) == WORDED[name]
    assert fields.pop("bias_correction") is fields.pop("refine_plan") is True
    assert fields.pop("engine").build == "auto"
    assert not any(fields.values())


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("metric", set(METRIC_NAMES)),
        ("precisions", LADDER),
        ("sensitivity", set(METRICS)),
        ("search", set(SEARCHES)),
        ("calibration", set(METHODS)),
        ("exclusions", set(get_args(Settings.model_fields["exclusions"].annotation))),
    ],
)
def test_help_lists_every_choice(name: str, choices: set[str]) -> None:
    assert choices <= set(re.findall(r"[\w-]+", option(name).help))


def test_only_what_was_given_is_a_setting() -> None:
    arguments = {"model": None, "calib": "c.npz", "equalize": False, "seed": 0, "output": Path("run"), "quiet": True}
    assert settings_given(arguments) == {"calib": "c.npz", "equalize": False, "seed": 0}


def test_precisions_are_a_comma_list() -> None:
    assert settings_given({"precisions": "fp16, int8"}) == {"precisions": ("fp16", "int8")}


@pytest.mark.parametrize("command", [build, engine], ids=lambda command: command.__name__)
def test_every_engine_option_is_an_option_of_the_commands_that_build(command: Any) -> None:
    parameters = inspect.signature(command).parameters
    assert {name: parameters[name].default for name in ENGINE_OPTIONS} == dict.fromkeys(ENGINE_OPTIONS)


@pytest.mark.parametrize("name", ENGINE_OPTIONS)
def test_help_states_the_default_of_the_engine_options(name: str) -> None:
    stated = re.search(r"\(default: ([^)]*)\)", option(name).help)
    expected = WORDED_ENGINE.get(name, str(EngineOptions.model_fields[name].default))
    assert (stated and stated[1]) == expected


def test_engine_options_are_one_setting() -> None:
    arguments = {"engine": True, "typing": "weak", "plugins": [], "refit": False, "rounds": None, "seed": 3}
    assert settings_given(arguments) == {"seed": 3, "engine": {"build": "always", "typing": "weak", "refit": False}}
    assert settings_given({"engine": False}) == {"engine": {"build": "never"}}
    assert settings_given({"engine": None, "shapes": []}) == {}
