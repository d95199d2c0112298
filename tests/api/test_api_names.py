"""What `import trt_mpq` offers: few names, each documented, none of which costs anything before it is asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

import trt_mpq
from trt_mpq.api.options import NOT_SETTINGS, Given, settings_given
from trt_mpq.errors import MissingDependencyError, SettingsError
from trt_mpq.settings import EngineOptions, Settings

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for name in trt_mpq.__all__ if name != "__version__"]


def test_names_are_few_and_documented() -> None:
    assert len(trt_mpq.__all__) <= 20
    for name in NAMES:
        documented = inspect.getdoc(getattr(trt_mpq, name))
        assert documented
        assert not documented.startswith(f"{name}("), "the docstring that dataclasses make says nothing"
    assert set(NAMES) <= set(dir(trt_mpq))
    with pytest.raises(AttributeError, match="nothing"):
        _ = trt_mpq.nothing


def test_the_import_costs_nothing() -> None:
    code = "import sys, trt_mpq; print(len({'numpy', 'onnx', 'torch', 'pydantic'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "0\n"


def test_arguments_are_the_settings() -> None:
    assert set(Given.__annotations__) - set(NOT_SETTINGS) == set(Settings.model_fields) - {"model"}
    assert list(inspect.signature(trt_mpq.build).parameters) == ["model", *Given.__annotations__]
    choices = {name for name, field in Settings.model_fields.items() if get_origin(field.annotation) is Literal}
    assert all(get_args(Settings.model_fields[name].annotation) for name in choices)


def test_settings_are_spelled_as_in_a_job() -> None:
    given: Given = {
        "keep": "fp16:stem",
        "device": Path("gpu.toml"),
        "engine": EngineOptions(build="never"),
        "trust": True,
        "batch": None,
    }
    assert settings_given(given) == {"keep": ("fp16:stem",), "device": "gpu.toml", "engine": {"build": "never"}}


def test_errors_speak_python() -> None:
    from trt_mpq.api.options import python_words

    sentence = "pass --calib, or --target-latency; run `trt-mpq build --calib x` first, or choose another with -o"
    with pytest.raises(SettingsError) as caught, python_words():
        raise SettingsError(sentence)
    assert str(caught.value) == (
        "pass calib=, or target_latency=; run `trt-mpq build --calib x` first, or choose another with output="
    )
    with pytest.raises(MissingDependencyError, match=r"run `pip install 'x\[y\]'`"), python_words():
        raise MissingDependencyError("x", "something", "pip install 'x[y]'")
