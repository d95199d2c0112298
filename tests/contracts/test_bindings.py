"""The committed facts against the real bindings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.bindings import (
    DISTRIBUTION,
    Binding,
    BindingUnavailableError,
    binding,
    imported_symbols,
    needed_libraries,
    shared_object,
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


def fetched(version: str, cache: Path) -> Binding:
    """The binding, or a skip that says why there is none."""
    try:
        return binding(json.loads(facts_path(version).read_text())["version"], cache)
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


def test_the_removed_names_of_the_eleventh_version_are_gone(recorded: str, dumped: dict[str, Any]) -> None:
    classes = dumped["facts"]["classes"]
    weak = {"FP16", "INT8", "FP8", "BF16", "OBEY_PRECISION_CONSTRAINTS"}

    assert weak & set(classes["BuilderFlag"]["enum"]) == (set() if recorded == "11.4" else weak)
    assert ("precision" in classes["ILayer"]["members"]) == (recorded != "11.4")


def test_the_stand_ins_define_the_nine_symbols_the_binding_imports(recorded: str, binding_cache: Path) -> None:
    module = shared_object(fetched(recorded, binding_cache).package)
    major = recorded.partition(".")[0]

    assert imported_symbols(module) == SYMBOLS
    assert needed_libraries(module) == [f"lib{n}.so.{major}" for n in ("nvinfer", "nvinfer_plugin", "nvonnxparser")]


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

    assert shared_object(fetched("11.4", tmp_path).package).exists()


def test_an_unreachable_index_is_a_reason_not_to_have_the_binding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "PROXY"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing answers

    with pytest.raises(BindingUnavailableError, match=rf"{DISTRIBUTION} 11\.4\.0\.106, .*: .* is unreachable"):
        binding("11.4.0.106", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_compiler_is_a_reason_not_to_have_the_binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BindingUnavailableError, match="no C compiler"):
        binding("11.4.0.106", tmp_path)
