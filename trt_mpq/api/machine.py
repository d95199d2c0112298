"""What this machine makes of a run folder."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.api.opening import settings_of_one
from trt_mpq.doctor import Diagnosis
from trt_mpq.engine.handover import read_network, read_searched
from trt_mpq.engine.routes import Release, delivered_in, routes_of, routes_with
from trt_mpq.errors import RunFolderError
from trt_mpq.latency.target import target_from_name
from trt_mpq.settings import settings_from
from trt_mpq.types.route import Route


def routes_here(folder: Path, machine: Diagnosis) -> tuple[Route, ...]:
    """What the TensorRT of this machine makes of the files of a run folder, on its GPU.

    Without a TensorRT it is what every TensorRT makes of them on the device of the run.

    Raises:
        RunFolderError: The folder holds no run, or one that delivered no files yet.
    """
    settings = settings_from(settings_of_one(folder), str(folder))
    plan, described = read_searched(folder).result.chosen.plan, read_network(folder)
    if not (folder / "typed.onnx").is_file():
        raise RunFolderError(f"{folder} holds no typed.onnx: run `trt-mpq emit {folder}` first")
    delivered, device = delivered_in(folder, plan, described, settings.engine), target_from_name(settings.device).sm
    if machine.tensorrt is None:
        return routes_of(delivered, device)
    sm = machine.compute_capability or device
    return routes_with(Release(machine.tensorrt, "here", 0, sm), delivered, sm)
