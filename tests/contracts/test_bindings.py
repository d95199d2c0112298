"""The committed facts against the real bindings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.bindings import (
    Binding,
    BindingUnavailableError,
    Wheel,
    binding,
    imported_symbols,
    needed_libraries,
    shared_object,
    wheel_of,
)
from tests.contracts.facts import details_path, facts_path

SYMBOLS = [
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
]
NO_WHEEL = Wheel("no-such-wheel", "1.0", "no_such_package")


def fetched(recorded: str, cache: Path) -> Binding:
    """The binding, or a skip that says why there is none."""
    try:
        return binding(wheel_of(recorded), cache)
    except BindingUnavailableError as reason:
        pytest.skip(str(reason))


def differences(committed: dict[str, Any], real: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entries that differ, committed first; an absent one is None."""
    names = sorted({*committed, *real})
    pairs = {name: (committed.get(name), real.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def test_the_facts_are_what_the_binding_has(recorded: str, dumped: dict[str, Any]) -> None:
    committed, real = json.loads(facts_path(recorded).read_text()), dumped["facts"]

    assert committed["version"] == real["version"]
    assert differences(committed["classes"], real["classes"]) == {}


def test_the_details_are_what_the_binding_has(recorded: str, dumped: dict[str, Any]) -> None:
    committed, real = json.loads(details_path(recorded).read_text()), dumped["details"]

    assert differences(committed["classes"], real["classes"]) == {}
    assert committed == real


def test_the_names_of_weak_typing_are_in_the_tenth_version_only(recorded: str, dumped: dict[str, Any]) -> None:
    classes = dumped["facts"]["classes"]
    weak = {"FP16", "INT8", "FP8", "BF16", "OBEY_PRECISION_CONSTRAINTS"}

    assert weak & set(classes["BuilderFlag"]["enum"]) == (weak if recorded == "10.16" else set())
    assert ("precision" in classes["ILayer"]["members"]) == (recorded == "10.16")


def test_the_stand_ins_define_the_symbols_the_binding_imports(recorded: str, binding_cache: Path) -> None:
    module = shared_object(fetched(recorded, binding_cache))
    major = recorded.partition(".")[0]
    is_rtx = recorded.startswith("rtx-")
    plugins = {"initLibNvInferPlugins"} if is_rtx else set()  # RTX has none
    rtx = [f"libtensorrt_{name}.so.1" for name in ("onnxparser_rtx", "rtx")]
    itself = [f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")]

    assert imported_symbols(module) == sorted({*SYMBOLS} - plugins)
    assert needed_libraries(module) == (rtx if is_rtx else itself)


def test_the_severities_repeated_by_the_logger_are_those_of_its_enum(dumped: dict[str, Any]) -> None:
    values = dumped["details"]["classes"]["ILogger"]["enums"]["Severity"]
    members = dumped["facts"]["classes"]["ILogger"]["members"]

    assert {name for name, kind in members.items() if kind == "attribute"} == {"Severity", *values}


def test_settings_of_pip_do_not_reach_the_download(
    binding_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched("11.4", binding_cache)  # skips where there is no way to fetch one
    for name in ("REQUIRE_VIRTUALENV", "REQUIRE_HASHES", "USER", "DRY_RUN", "NO_CLEAN", "PRE"):
        monkeypatch.setenv(f"PIP_{name}", "1")
    for name, value in {
        "NO_BINARY": ":all:",
        "TARGET": "/nowhere",
        "CONSTRAINT": "/nowhere",
        "PLATFORM": "win32",
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)

    assert shared_object(fetched("11.4", tmp_path)).exists()


def test_an_unreachable_index_is_a_reason_not_to_have_the_binding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "PROXY"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing answers

    with pytest.raises(BindingUnavailableError, match=r"no-such-wheel 1\.0, .*: .* is unreachable"):
        binding(NO_WHEEL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_compiler_is_a_reason_not_to_have_the_binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BindingUnavailableError, match="no C compiler"):
        binding(NO_WHEEL, tmp_path)
