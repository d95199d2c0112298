"""From arguments to a `Run`: the job file or the run folder gives settings, the command line overrides them."""

from __future__ import annotations

import re
import shlex
import sys
from os.path import expandvars
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_mpq.errors import SettingsError

if TYPE_CHECKING:
    from trt_mpq.pipeline.device_run import DeviceRun
    from trt_mpq.pipeline.devices import DevicesRun
    from trt_mpq.pipeline.run import Run
    from trt_mpq.settings import Settings
    from trt_mpq.types import Observer


def check_early(given: dict[str, Any], origin: str) -> None:
    """Refuse options that no model and no data could make right, before those are looked at; raises SettingsError."""
    from trt_mpq.pipeline.checks import check_settings
    from trt_mpq.pipeline.devices import settings_by_device
    from trt_mpq.settings import overridden, settings_from

    settings = settings_from(overridden({"model": "model.onnx"}, given), origin)
    if len(settings.devices) == 1:
        check_settings(settings)
    else:
        settings_by_device(settings)


def open_build(
    source: Path,
    given: dict[str, Any],
    folder: Path,
    observer: Observer,
    *,
    trust: bool = False,
    command: str | None = None,
) -> Run | DevicesRun:
    """A run that does what `source` (a model or a job file) and the options `given` say, of several devices one each.

    `trust` lets it run code that a job file names and the options do not; so it does for run folders below. `command`
    is as in `open_run`.

    Raises:
        SettingsError: A setting is unknown or not allowed, or names code that is not trusted.
        RunFolderError: The folder cannot be used.
    """
    from trt_mpq.settings import overridden

    named = fields_from_source(source, given, folder, observer)
    require_trust(named, given, _origin(source), trust)
    return _open_all(overridden(named, given), _origin(source), folder, observer, command)


def open_inspection(source: Path, given: dict[str, Any], folder: Path, observer: Observer) -> Run:
    """The same for a folder that may already hold a run, whose other settings then stay."""
    from trt_mpq.artifacts.store import MANIFEST
    from trt_mpq.settings import overridden

    stored = settings_of_one(folder) if (folder / MANIFEST).exists() else {}
    fields = overridden({**stored, **fields_from_source(source, given, folder, observer)}, given)
    return open_run(fields, _origin(source), folder, observer)


def open_stage(folder: Path, given: dict[str, Any], observer: Observer, *, trust: bool = False) -> Run:
    """The run in `folder`, with its stored settings changed by the options `given`.

    Raises:
        SettingsError: A setting is not allowed.
        RunFolderError: `folder` holds no run.
    """
    from trt_mpq.settings import overridden

    stored = settings_of_one(folder)
    require_trust(stored, given, str(folder), trust)
    return open_run(overridden(stored, given), str(folder), folder, observer)


def open_finished(folder: Path, given: dict[str, Any], observer: Observer, *, trust: bool = False) -> Run | DevicesRun:
    """The same for a folder that may hold runs for several devices."""
    from trt_mpq.artifacts.store import settings_of_run
    from trt_mpq.settings import overridden

    stored = settings_of_run(folder)
    require_trust(stored, given, str(folder), trust)
    return _open_all(overridden(stored, given), str(folder), folder, observer)


def open_device(folder: Path, given: dict[str, Any], observer: Observer, *, trust: bool = False) -> DeviceRun:
    """The device half of the run in `folder`, with its stored engine options changed by those `given`.

    Raises:
        SettingsError: An option is not allowed.
        RunFolderError: `folder` holds no run, or another process works on it.
    """
    from trt_mpq.pipeline.device_run import DeviceRun
    from trt_mpq.settings import overridden, settings_from

    stored = settings_of_one(folder)
    require_trust(stored, given, str(folder), trust)
    return DeviceRun(settings_from(overridden(stored, given), str(folder)), folder, observer)


def open_run(fields: dict[str, Any], origin: str, folder: Path, observer: Observer, command: str | None = None) -> Run:
    """A run with the settings `fields`, recorded as the work of `command` (default: what the user typed).

    `origin` is where an error says the settings came from.

    Raises:
        SettingsError: The settings name several devices.
        RunFolderError: The folder holds runs for several.
    """
    from trt_mpq.pipeline.devices import require_one_device
    from trt_mpq.pipeline.run import Run

    settings, said = _settings_here(fields, origin)
    if len(settings.devices) > 1:
        raise SettingsError("only `trt-mpq build` takes several devices: name one with --device")
    require_one_device(folder)
    run = Run(settings, folder, observer, command or _typed())
    if said:
        observer.note(said)
    return run


def settings_of_one(folder: Path) -> dict[str, Any]:
    """The settings of the run in `folder`; raises RunFolderError if it holds none, or runs for several devices."""
    from trt_mpq.artifacts.store import settings_of_run
    from trt_mpq.pipeline.devices import require_one_device

    stored = settings_of_run(folder)
    require_one_device(folder)
    return stored


def _open_all(
    fields: dict[str, Any], origin: str, folder: Path, observer: Observer, command: str | None = None
) -> Run | DevicesRun:
    from trt_mpq.pipeline.devices import DevicesRun

    settings, _ = _settings_here(fields, origin)
    if len(settings.devices) == 1:
        return open_run(fields, origin, folder, observer, command)
    return DevicesRun(settings, folder, observer, command or _typed())


def _settings_here(fields: dict[str, Any], origin: str) -> tuple[Settings, str]:
    """The settings on this machine, and what is to be said of them."""
    from trt_mpq.settings import settings_from

    device, said = ({}, "") if "device" in fields else _device_here()
    return settings_from({**fields, **device}, origin), said


def _typed() -> str:
    """What the user typed."""
    return shlex.join(["trt-mpq", *sys.argv[1:]])


def fields_from_source(source: Path, given: dict[str, Any], folder: Path, observer: Observer) -> dict[str, Any]:
    """The settings of a job file, or just the model; a job's model path may hold `$VARIABLES`.

    A torch module is exported into the run `folder` first, once for every state of it.

    Raises:
        SettingsError: The job file cannot be read, or says no model and none is `given`.
        TrtMpqError: The torch module cannot be exported.
    """
    from trt_mpq.artifacts.store import opened_folder
    from trt_mpq.export import ExportOptions, export_once, is_torch_source
    from trt_mpq.settings import fields_from_job

    if is_torch_source(str(source)):
        opened_folder(folder)
        exported = export_once(str(source), folder / "exported", ExportOptions(samples=given.get("calib")), observer)
        processor = source / "preprocessor_config.json"
        return {"model": str(exported.path), **({"preprocess": str(processor)} if processor.is_file() else {})}
    if source.suffix != ".toml":
        return {"model": str(source)}
    fields = fields_from_job(source)
    if "model" not in given:
        fields["model"] = _filled_in(str(fields.get("model", "")), source)
    return fields


def _device_here() -> tuple[dict[str, str], str]:
    """The device model of this machine's GPU as a setting, if there is one, and what is to be said of it."""
    from trt_mpq.doctor import gpu_names
    from trt_mpq.latency.target import target_of_gpu
    from trt_mpq.settings import Settings

    names = gpu_names()
    found = next((target for target in map(target_of_gpu, names) if target), None)
    if found is not None:
        return {"device": found}, f"no --device was given: it is {found}, as this machine has a {names[0]}"
    why = f"{names[0]} is none that is known" if names else "this machine has no GPU"
    return {}, f"no --device was given and {why}: latencies are those of {Settings.model_fields['device'].default}"


def require_trust(named: dict[str, Any], given: dict[str, Any], origin: str, trust: bool) -> None:
    """Raise SettingsError for code that `origin` names, and the user did not name on the command line."""
    for name, code in _code_of(named).items():
        if not trust and name not in _code_of(given):
            raise SettingsError(f"{origin} names {code}, which would be run as code here: pass --trust if you trust it")


def _code_of(fields: dict[str, Any]) -> dict[str, str]:
    """What settings name that runs as code, in words, by the name of the setting."""
    engine = fields.get("engine")
    decode = str(fields.get("decode") or "")
    metric, plugins = str(fields.get("metric", "")), engine.get("plugins") if isinstance(engine, dict) else None
    return {
        **({"metric": f"the metric {metric}"} if ":" in metric else {}),
        **({"decode": f"the decoder {decode}"} if ":" in decode and not decode.startswith("ctc:") else {}),
        **({"plugins": f"the plugin library {', '.join(map(str, plugins))}"} if plugins else {}),
        **({"ray": f"the Ray cluster {fields['ray']}"} if fields.get("ray") else {}),
    }


def _origin(source: Path) -> str:
    return str(source) if source.suffix == ".toml" else "command line"


def _filled_in(model: str, job: Path) -> str:
    if not model:
        raise SettingsError(f"{job} names no model: add `model` to it or give --model")
    path = expandvars(model)
    if unset := re.search(r"\$\{?(\w+)", path):
        raise SettingsError(
            f"{job}: model: the environment variable {unset[1]} is not set: set it to "
            "the folder that holds the model (engines/README.md says how to get it), or give --model"
        )
    return path
