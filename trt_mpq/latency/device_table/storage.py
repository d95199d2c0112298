"""Device tables as files, so that what a device measured serves a search on another machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from trt_mpq.artifacts.files import from_json, to_stored_json, write_text
from trt_mpq.errors import SettingsError
from trt_mpq.latency.device_table.values import DeviceTable
from trt_mpq.types.engine import Platform


def save_table(table: DeviceTable, path: Path) -> None:
    """Write `table` atomically as JSON; raises RunFolderError if that is impossible."""
    write_text(path, to_stored_json(table, DeviceTable))


def load_table(path: Path) -> DeviceTable:
    """The table that `save_table` wrote.

    Raises:
        SettingsError: There is no such file, or it is no device table.
    """
    try:
        return from_json(path.read_bytes(), DeviceTable)
    except OSError as error:
        raise SettingsError(
            f"cannot read the device table {path} ({error.strerror}): write one with `trt-mpq measure`"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SettingsError(
            f"{path} is no device table of this version ({where}: {first['msg']}): write one with `trt-mpq measure`"
        ) from error


def matches(table: DeviceTable, model_sha256: str, batch: int, platform: Platform | None = None) -> bool:
    """Whether `table` was measured for this model at this batch, and on this device unless `platform` is None.

    A device is its GPU, compute capability and TensorRT version; another driver does not make another device.
    """
    return _mismatch(table, model_sha256, batch, platform) is None


def refuse_mismatch(table: DeviceTable, model_sha256: str, batch: int, platform: Platform | None = None) -> None:
    """Raise SettingsError, saying what differs, unless `matches`."""
    mismatch = _mismatch(table, model_sha256, batch, platform)
    if mismatch is not None:
        raise SettingsError(f"the device table was measured {mismatch}: run `trt-mpq measure` for this one")


def _mismatch(table: DeviceTable, model_sha256: str, batch: int, platform: Platform | None) -> str | None:
    measured = table.provenance
    if measured.model_sha256 != model_sha256:
        return f"for another model (SHA-256 {measured.model_sha256[:12]}, not {model_sha256[:12]})"
    if measured.batch != batch:
        return f"at batch {measured.batch}, not {batch}"
    if platform is not None and _device(measured.platform) != _device(platform):
        return f"on {_device(measured.platform)}, not {_device(platform)}"
    return None


def _device(platform: Platform) -> str:
    return f"{platform.gpu} (SM {platform.sm}) with TensorRT {platform.tensorrt}"
