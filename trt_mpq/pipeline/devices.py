"""One model for several devices: a run for each in a folder of its own, which share what no device decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from trt_mpq.artifacts.lock import hold
from trt_mpq.artifacts.store import MANIFEST, Store, read_manifest
from trt_mpq.doctor import gpu_names
from trt_mpq.errors import RunFolderError, SettingsError, TrtMpqError
from trt_mpq.evaluate.cache import EVALUATIONS, take_over
from trt_mpq.latency.target import target_of_gpu
from trt_mpq.pipeline.checks import check_inputs, check_settings
from trt_mpq.pipeline.report import environment
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.shipping import shipped_engine
from trt_mpq.pipeline.sources import SOURCE
from trt_mpq.report.comparison import DeviceComparison, compared
from trt_mpq.report.files import write_comparison
from trt_mpq.settings import Settings
from trt_mpq.types import Observer


class DevicesRun:
    """One model on its way to a plan for every device, and a page that compares them.

    Every device has a run of its own in a folder that is called like it, whole as any other run folder: it can be gone
    on with and carried to the device. Stages and scores that depend on no device are made by the first run that needs
    them and copied by the others.

    Args:
        settings: What the user asked for; `device` names them all.
        folder: The folder of the runs; created if absent.
        observer: Told what happens.
        command: The command line, for the record.

    Raises:
        TrtMpqError: The model or the folder cannot be used, or a device does not go with the settings.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, command: str) -> None:
        self._settings = settings_by_device(settings)
        check_inputs(settings, folder)
        _require_several(folder)
        self._held = [hold(path) for path in _run_folders(folder)]  # before anything half written there is swept away
        self._store = Store(folder, settings, observer, source=SOURCE)
        self._store.describe(source=str(settings.model.resolve()), command=command, environment=environment())
        self._folder, self._observer, self._command = folder, observer, command

    @property
    def folders(self) -> tuple[Path, ...]:
        """The run folders, in the order of the devices."""
        return tuple(self._folder / name for name in self._settings)

    def first(self) -> Run:
        """The run for the first device."""
        return self._opened(next(iter(self._settings)))

    def report(self) -> DeviceComparison:
        """The report of every run, and what they come to side by side, as comparison.json and comparison.html.

        Raises:
            TrtMpqError: As a run; it names the device.
        """
        self._require_engines()
        self._deploy_side_by_side()
        reports = {}
        for number, name in enumerate(self._settings, start=1):
            self._observer.note(f"device {number} of {len(self._settings)}: {name}")
            with _naming(name):
                reports[name] = self._sharing(name).report()
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        comparison = compared(reports, self._command, created)
        write_comparison(comparison, self._folder)
        return comparison

    def release(self) -> None:
        """Let other processes work on the folders, which this run does no more."""
        self._store.release()
        self._held = []

    def _deploy_side_by_side(self) -> None:
        """Have GPUs of a Ray cluster build and time the engines of all devices at once, once every plan is known."""
        if not any(own.ray and own.engine.build != "never" for own in self._settings.values()):
            return
        runs = {}
        for name in self._settings:
            with _naming(name):
                runs[name] = self._sharing(name)
                runs[name].emit()
        with ThreadPoolExecutor(len(runs)) as threads:
            done = {name: threads.submit(_deploy, run) for name, run in runs.items()}
        for name, outcome in done.items():
            with _naming(name):
                outcome.result()

    def _sharing(self, name: str) -> Run:
        """The run for a device, with all scores that the others have."""
        run = self._opened(name)
        take_over(self._folder / name / EVALUATIONS, (path / EVALUATIONS for path in self._others(name)))
        return run

    def _require_engines(self) -> None:
        """Refuse before any work devices for which no engine can be had, where one is required."""
        for name, settings in self._settings.items():
            if settings.engine.build == "always":
                with _naming(name):
                    self._opened(name).gpu.require_engine()

    def _opened(self, name: str) -> Run:
        return Run(self._settings[name], self._folder / name, self._observer, self._command, self._others(name))

    def _others(self, name: str) -> Sequence[Path]:
        """Run folders of other devices, those of earlier builds too."""
        return [path for path in _run_folders(self._folder) if path.name != name]


def _run_folders(folder: Path) -> Sequence[Path]:
    """The run folders in `folder`, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []


def _deploy(run: Run) -> None:
    """Build, time and verify the engine of the plan, where that can be done; its report finds what came of it."""
    shipped_engine(run.store, run.calibration_stages().described, run.delivery_stages(), run.gpu)


def require_one_device(folder: Path) -> None:
    """Raise RunFolderError if `folder` holds runs for several devices."""
    manifest = read_manifest(folder)
    if manifest is not None and "," in str(manifest.settings.get("device")):
        names = [path.name for path in _run_folders(folder)] or ["DEVICE"]
        raise RunFolderError(
            f"{folder} holds a run for each of several devices ({', '.join(names)}): give one of these folders, as in "
            f"{folder / names[0]}"
        )


def _require_several(folder: Path) -> None:
    manifest = read_manifest(folder)
    if manifest is not None and manifest.stages:
        raise RunFolderError(f"{folder} holds a run for one device: choose another folder for several with -o")


def _folder_name(device: str) -> str:
    """The folder of a device: its name, or that of its file."""
    return Path(device).stem if device.endswith(".toml") else device


def settings_by_device(settings: Settings) -> Mapping[str, Settings]:
    """The settings of the run for every device that `settings` names, by the name of its folder.

    Raises:
        SettingsError: A device is unknown or named twice, or does not go with the settings.
    """
    if settings.latency not in ("auto", "modelled"):
        raise SettingsError(
            f"--latency {settings.latency} is of one device and --device names {len(settings.devices)}: leave "
            "--latency out, or run `trt-mpq build` for each device alone"
        )
    found: dict[str, Settings] = {}
    for device in settings.devices:
        if (name := _folder_name(device)) in found:
            raise SettingsError(f"--device names {name} twice: give each device once, files under different names")
        with _naming(name):
            found[name] = _settings_for(settings, device)
            check_settings(found[name])
    return found


def _settings_for(settings: Settings, device: str) -> Settings:
    """The settings of the run for `device`: latencies are modelled, so that they can be compared.

    A GPU of this machine builds engines for the device that it is, and for no other.
    """
    here, engine = (None if settings.ray else _device_here()), settings.engine
    if here is not None and here != device:
        if engine.build == "always":
            raise SettingsError(
                f"{device}: --engine builds on the GPU of this machine, which is {here}: leave --engine out, and run "
                "`trt-mpq engine` with the folder of each device there"
            )
        engine = engine.model_copy(update={"build": "never"})
    return settings.model_copy(update={"device": device, "latency": "modelled", "engine": engine})


def _device_here() -> str | None:
    """The device model of this machine's GPU, or what the GPU is called if there is none; None without a GPU."""
    names = gpu_names()
    return next(filter(None, map(target_of_gpu, names)), names[0] if names else None)


@contextmanager
def _naming(device: str) -> Iterator[None]:
    """Let errors say which device they are about."""
    try:
        yield
    except TrtMpqError as error:
        if device not in str(error):
            error.args = (f"{device}: {error}", *error.args[1:])
        raise
