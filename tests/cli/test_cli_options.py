"""Options are the settings: each is declared once, and the help tells the truth about it."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from trt_mpq.calibrate.histogram import METHODS
from trt_mpq.cli import app
from trt_mpq.cli.options import Takes, typer_function
from trt_mpq.cli.output import Output
from trt_mpq.evaluate.metrics import METRIC_NAMES
from trt_mpq.search import SEARCHES
from trt_mpq.sensitivity import METRICS
from trt_mpq.settings import EngineOptions, Option, Settings, settings_from
from trt_mpq.types import Precision

COMMANDS = [str(info.name) for info in app.registered_commands]
FIELDS = {name: field for name, field in Settings.model_fields.items() if name != "engine"} | EngineOptions.model_fields
"""Every setting; `engine` is the options of engines."""
OPTIONS = {name: name.replace("_", "-") for name in FIELDS} | {"build": "engine"}
"""What it is called on the command line."""
PANELS = ("Data", "Goal", "Search", "Quantizers", "Engine", "Timing", "Running")
LADDER = {str(p) for p in Precision if p is not Precision.FP32}


def function(command: str) -> Any:
    return getattr(import_module(f"trt_mpq.cli.{command}"), command)


@cache
def shown(command: str) -> str:
    """The help of a command, every option on a line of its own."""
    done = CliRunner().invoke(app, [command, "--help-all" if command == "build" else "--help"], env={"COLUMNS": "1000"})
    assert done.exit_code == 0
    return done.stdout


def line_of(name: str, command: str = "build") -> str:
    """The line of a setting in the help."""
    [line] = re.findall(rf"^│ +--{OPTIONS[name]} .*$", shown(command), re.MULTILINE)
    return " ".join(str(line).strip("│ ").split())


def taken(command: str) -> set[str]:
    """The settings that a command takes."""
    return set(signature(typer_function(function(command))).parameters) & set(FIELDS)


def marker(name: str) -> Option:
    [option] = (mark for mark in FIELDS[name].metadata if isinstance(mark, Option))
    return option


def given(*arguments: str) -> dict[str, Any]:
    """What a command that takes every setting is given for these words."""
    seen: dict[str, Any] = {}

    def command(given: Annotated[dict[str, Any], Takes()], sink: Output) -> None:
        seen.update(given)

    alone = typer.Typer()
    alone.command()(typer_function(command))
    done = CliRunner().invoke(alone, arguments)
    assert done.exit_code == 0, done.output
    return seen


def test_every_setting_is_an_option_of_build() -> None:
    assert taken("build") == set(FIELDS)
    offered = set(re.findall(r"--[\w-]+", shown("build")))
    assert {f"--{option}" for option in OPTIONS.values()} <= offered
    flags = [name for name, field in FIELDS.items() if field.annotation is bool or marker(name).switch]
    assert {f"--no-{OPTIONS[name]}" for name in flags} == {option for option in offered if option.startswith("--no-")}


def test_engine_options_and_settings_are_told_apart_by_name() -> None:
    assert not set(Settings.model_fields) & set(EngineOptions.model_fields)


def test_panels_are_those_of_build_in_order() -> None:
    found = re.findall(r"^╭─ (\w+) ─", shown("build"), re.MULTILINE)
    assert found == ["Arguments", "Options", *PANELS, "Output"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_takes_settings_and_panels_that_exist(command: str) -> None:
    for parameter in signature(function(command), eval_str=True).parameters.values():
        for takes in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(takes, Takes):
                assert set(takes.names) <= {*FIELDS, *PANELS}
                assert set(takes.without) <= set(FIELDS)
                assert taken(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_overrides_unasked(command: str) -> None:
    parameters: dict[str, Parameter] = dict(signature(typer_function(function(command))).parameters)
    assert {parameters[name].default for name in taken(command)} <= {None}


def test_a_command_that_builds_takes_every_engine_option() -> None:
    assert taken("engine") >= set(EngineOptions.model_fields) - {"build"}


# What the help says.


@pytest.mark.parametrize("name", FIELDS)
def test_help_is_the_docstring_of_the_field(name: str) -> None:
    docstring = FIELDS[name].description
    assert docstring, "a setting explains itself"
    assert " ".join(docstring.split()).removesuffix(".") in line_of(name), "nothing in it is read as markup"


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "model"])
def test_help_states_the_default_truly(name: str) -> None:
    """A default that is a value is what is stated: given as an option, it changes nothing."""
    stated = line_of(name).rpartition("default: ")[2].removesuffix(").")
    default = FIELDS[name].default
    if default is None or default == () or marker(name).switch:
        assert stated == (marker(name).unset or "none")
    elif isinstance(default, bool):
        assert (stated, type(default)) == ("on" if default else "off", bool)
    else:
        fields = given(f"--{OPTIONS[name]}", stated)
        settings = settings_from({"model": "m.onnx", **fields}, "here")
        assert settings == Settings(model=Path("m.onnx"))
        assert fields


@pytest.mark.parametrize("name", FIELDS)
def test_no_default_is_written_twice(name: str) -> None:
    assert "default" not in str(FIELDS[name].description)
    if marker(name).unset:
        assert FIELDS[name].default in (None, ()) or marker(name).switch, "its value says it"


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("metric", set(METRIC_NAMES)),
        ("precisions", LADDER),
        ("sensitivity", set(METRICS)),
        ("search", set(SEARCHES)),
        ("calibration", set(METHODS)),
        ("exclusions", set(get_args(Settings.model_fields["exclusions"].annotation))),
        ("typing", set(get_args(EngineOptions.model_fields["typing"].annotation))),
        ("hardware_compatible", set(get_args(EngineOptions.model_fields["hardware_compatible"].annotation))),
    ],
)
def test_help_lists_every_choice(name: str, choices: set[str]) -> None:
    assert choices <= set(re.findall(r"[\w-]+", line_of(name)))


@pytest.mark.parametrize("name", ["keep", "exclude", "shapes", "plugins"])
def test_help_says_what_may_be_repeated(name: str) -> None:
    assert "(may be repeated; default: " in line_of(name)


# What a command is given.


def test_only_what_was_given_is_a_setting() -> None:
    assert given() == {}
    assert given("--calib", "c.npz", "--no-equalize", "--seed", "0", "--quiet") == {
        "calib": "c.npz", "equalize": False, "seed": 0
    }  # fmt: skip


def test_lists_are_one_text_or_repeated_options() -> None:
    asked = given("--precisions", "int8, fp16", "--keep", "fp16:a,b", "--keep", "int8:c", "--target-size", "12MiB")
    assert asked == {"precisions": "int8, fp16", "keep": ["fp16:a,b", "int8:c"], "target_size": "12MiB"}
    settings = settings_from({"model": "m.onnx", **asked}, "here")
    assert settings.precisions == (Precision.FP16, Precision.INT8)
    assert settings.keep == ("fp16:a,b", "int8:c")
    assert settings.target_size == 12 * 2**20


def test_engine_options_are_one_setting() -> None:
    asked = given("--engine", "--typing", "weak", "--no-refit", "--seed", "3", "--plugins", "a.so")
    assert asked == {
        "seed": 3, "engine": {"build": "always", "typing": "weak", "refit": False, "plugins": [Path("a.so")]}
    }  # fmt: skip
    assert given("--no-engine") == {"engine": {"build": "never"}}
