"""Every error a user can cause or meet.

One tree, so that the command line maps it to an exit code in one place::

    TrtMpqError                 what, where and what to do, in one sentence
    ├── ModelError              the ONNX file or its graph
    ├── DataError               calibration data, evaluation data, recipes
    ├── SettingsError           an option or a job file
    ├── MetricError             a task metric, the user's own included
    ├── CalibrationError        ranges that cannot be used (NaN, inf, nothing observed)
    ├── RuntimeFailure          a runtime refused a graph, or there is no GPU to run on
    ├── TargetNotReachable      no evaluated plan meets the accuracy target
    ├── ComparisonFailed        outputs too far from FP32, where that was made a condition
    ├── RebuildDiffers          a run that was done again gives other bytes
    ├── RunFolderError          the output folder: not writable, damaged or another model's
    └── MissingDependencyError  an optional package that is not installed
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_PRODUCT = "trt-mpq"
_DECLARED = re.compile(
    r"""(?P<name>[\w.-]+)(\[(?P<extras>[^]]*)\])?(?P<versions>[^;]*)(;.*extra == ['"](?P<extra>[\w-]+)['"])?"""
)
"""A requirement in metadata: name, extras of it, versions, and the extra that it belongs to."""


class TrtMpqError(Exception):
    """Base of all expected failures; the command line prints it and exits with code 2.

    It can be sent from one process to another.
    """

    def __reduce__(self) -> tuple[Callable[..., TrtMpqError], tuple[type[TrtMpqError], str]]:
        # Not by the constructor, which may take other things than the message.
        return _restored, (type(self), str(self))


def _restored(kind: type[TrtMpqError], message: str) -> TrtMpqError:
    return kind.__new__(kind, message)


class ModelError(TrtMpqError):
    """The model cannot be read, is invalid, or holds something this product does not support."""


class DataError(TrtMpqError):
    """Calibration or evaluation data is missing, malformed or does not fit the model."""


class SettingsError(TrtMpqError):
    """An option or a job file holds a value that is unknown or contradictory."""


class MetricError(TrtMpqError):
    """A task metric cannot be loaded, raised, or returned something that is no score."""


class CalibrationError(TrtMpqError):
    """The observed ranges cannot be used to quantize."""


class RuntimeFailure(TrtMpqError):
    """A runtime could not load or run a graph or an engine, or has no device to do it on."""


class TargetNotReachable(TrtMpqError):
    """No plan that was evaluated meets the accuracy target; the message names the best one."""


class ComparisonFailed(TrtMpqError):
    """Outputs are further from those of FP32 than they may be, and the user made that a condition."""


class RebuildDiffers(TrtMpqError):
    """A run that was done again from its manifest starts from, or ends in, other bytes."""


class RunFolderError(TrtMpqError):
    """The run folder cannot be written, is damaged, or belongs to another model."""


class MissingDependencyError(TrtMpqError):
    """An optional package is needed and not installed.

    Args:
        package: The package that could not be imported.
        needed_for: What the user was doing, as the end of a sentence.
        install: The command that installs it.
    """

    def __init__(self, package: str, needed_for: str, install: str) -> None:
        super().__init__(f"{package} is not installed and {needed_for} needs it: run `{install}`")


def missing(package: str, needed_for: str, extra: str, *, upgrade: bool = False) -> MissingDependencyError:
    """The error for a `package` of an `extra` that is not installed."""
    return MissingDependencyError(package, needed_for, install_command(extra, upgrade=upgrade))


def install_command(extra: str = "", package: str = "", *, upgrade: bool = False) -> str:
    """The command that installs the packages of an extra (without one, those that are always needed), or one `package`.

    It names them one by one, because this product is on no package index: `trt-mpq[extra]` would not be found.
    """
    pip = f"pip install {'--upgrade ' if upgrade else ''}"
    declared = {requirement.partition(" ")[0]: requirement.replace(" ", "") for requirement in _requirements(extra)}
    if not declared:
        return f"{pip}'.[{extra}]'" if extra else f"{pip}."
    wanted = [declared[package]] if package in declared else declared.values()
    return pip + " ".join(f"'{requirement}'" for requirement in wanted)


def _requirements(extra: str) -> Iterator[str]:
    """What installed metadata says that `extra` needs, as `name specifier`; nothing where there is no such metadata."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        declared = [_DECLARED.match(text) for text in requires(_PRODUCT) or ()]
    except PackageNotFoundError:
        return
    for match in filter(None, declared):
        if (match["extra"] or "") != extra:
            continue
        if match["name"] == _PRODUCT:
            for other in match["extras"].split(","):
                yield from _requirements(other)
        else:
            yield f"{match['name']} {match['versions'].strip()}"
