"""A run as a Python program sees it: opened with what the program has, its stages methods, its outcome a `Result`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, overload

from trt_mpq.api.given import opened_run
from trt_mpq.api.options import Given, GivenDevices, python_words, signature
from trt_mpq.api.progress import observer_of
from trt_mpq.api.result import DeviceResults, Result
from trt_mpq.errors import RuntimeFailure, SettingsError
from trt_mpq.pipeline.devices import DevicesRun
from trt_mpq.report.comparison import DeviceComparison
from trt_mpq.runtime.tensorrt.flavour import require_installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import onnx
    from typing_extensions import Self, Unpack

    from trt_mpq.pipeline.run import Run as PipelineRun
    from trt_mpq.sensitivity.agreement import Sensitivities
    from trt_mpq.types import Grouping, PrecisionPlan, Ranges, SearchResult
    from trt_mpq.types.compilation import Compilation

    class TorchModule(Protocol):
        """A torch.nn.Module, which only `runtime/` may name."""

        forward: Callable[..., Any]

        def state_dict(self) -> Any:
            """Its weights."""

    ModelSource: TypeAlias = str | Path | onnx.ModelProto | TorchModule


class Run:
    """A model on its way to a mixed-precision plan, one stage at a time; `build` is all of them.

    A stage does what it needs of those before it. Nothing is done twice: what was finished lies in the run folder, and
    the same arguments find it again, as the command line does. The folder is kept from other processes until the run
    is closed, by `close` or at the end of a `with` block.

    Args:
        model: The path of an ONNX file, an onnx.ModelProto, a torch.nn.Module, which stays as it is, or what the
            command line takes too: `module:factory`, a Hugging Face model folder, a job file.
        given: The settings by the names of the command line's options, see `build`.

    Raises:
        TrtMpqError: The model, the data or a setting cannot be used. Settings are checked before any work.
    """

    def __init__(self, model: ModelSource, **given: Unpack[Given]) -> None:
        with python_words():
            self.folder = Path(given.get("output", "run"))
            opened = _opened(model, given, self.folder)
            if isinstance(opened, DevicesRun):
                raise SettingsError("a Run is for one device: give --device one name, or call `trt_mpq.build`")
            self._run = opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes work on the run folder, which this run does no more."""
        self._run.release()

    def inspect(self) -> Grouping:
        """The groups of the model: what shares a precision, and what stays out of which."""
        with python_words():
            return self._run.inspect()

    def calibrate(self) -> Ranges:
        """The range (amax) of every tensor that a group quantizes, by format."""
        with python_words():
            return self._run.calibrate()

    def sensitivity(self) -> Sensitivities:
        """What every group loses in each candidate precision, by every metric that was asked for."""
        with python_words():
            return self._run.sensitivities()

    def search(self) -> SearchResult:
        """The fastest plan found that keeps the accuracy target, and every plan that was tried.

        Raises:
            TargetNotReachable: No plan does.
        """
        with python_words():
            return self._run.search()

    def emit(self, plan: str | None = None) -> PrecisionPlan:
        """Write the plan, `typed.onnx`, `reference.onnx`, where possible `weak.onnx`, each scored as it lies there.

        Args:
            plan: Another plan that the search tried, by its digest; it is written to `plans/DIGEST` of the run folder
                and scored as the search did.
        """
        with python_words():
            return self._run.emit() if plan is None else self._run.emit_tried(plan)

    def compile(self) -> Compilation:
        """What NVIDIA's compiler makes of the plan without a GPU, an engine where it serves the device of the run.

        Raises:
            MissingDependencyError: It is not installed.
            RuntimeFailure: It must not be asked, or the plan is for study only.
        """
        with python_words():
            require_installed("rtx")
            made = self._run.report().compilation
        if made is None:
            raise RuntimeFailure("the compiler was not asked: engine= says so, or the plan is for study only")
        return made

    def build(self) -> Result:
        """All of it, the engine where one can be had here, and the report.

        Raises:
            TrtMpqError: As the stages.
        """
        with python_words():
            report = self._run.report()
        return Result(self.folder, report)


def _opened(model: ModelSource, given: Given, folder: Path) -> PipelineRun | DevicesRun:
    return opened_run(model, given, folder, observer_of(given.get("progress", True)))


@overload
def build(model: ModelSource, **given: Unpack[Given]) -> Result: ...
@overload
def build(model: ModelSource, **given: Unpack[GivenDevices]) -> DeviceResults: ...
def build(model: ModelSource, **given: Any) -> Result | DeviceResults:
    """Find the fastest plan that meets the accuracy target; write it as ONNX, and where it can be had as an engine.

    The same call resumes in the same folder. All arguments but the model are named, optional, and checked before any
    work; those that are not listed here are the options of `trt-mpq build`, with underscores.

    Args:
        model: The path of an ONNX file, an onnx.ModelProto, a torch.nn.Module, which stays as it is, or what the
            command line takes too: `module:factory`, a Hugging Face model folder, a job file.
        **given: What is asked for:

            - `calib`, `eval`, `holdout`: data, as files, recipes, arrays, mappings of arrays, torch data sets and
              loaders, Hugging Face data sets, iterables or functions, see `trt_mpq.api.data.arrays_from`.
            - `metric`: a name, or a function of the outputs (name to array [n, ...]) and the labels ([n, ...] or None)
              that returns one score per sample or one for all, higher is better.
            - `target_accuracy`: the share of the FP32 score to keep, 0.99 by default; or `max_loss`, `target_sqnr`
              (dB), `target_latency` (ms), `target_size`.
            - `device`: the GPU that latencies are for, or several in a list: a plan for each.
            - `precisions`: the ladder, as in "fp16,int8".
            - `batch`: rows per inference.
            - `output`: the run folder, "run" by default.
            - `example_inputs`: for a torch module: a tensor, a tuple in the order of forward, or a mapping. By default
              samples of `calib`. `export` says more (free axes, opset).
            - `engine`: options of engines, as in `{"build": "never"}`.
            - `progress`: True prints a line per stage, False nothing; a function is called as
              `progress(stage, done, total)`.
            - `trust`: run code that a job file names.

    Returns:
        The plan, its scores, latencies and files, and the report; of several devices all that by device.

    Raises:
        TrtMpqError: One sentence that says what is wrong, where, and what to do.
    """
    with python_words():
        folder = Path(given.get("output", "run"))
        opened = _opened(model, cast("Given", given), folder)
        try:
            report = opened.report()
        finally:
            opened.release()
    return DeviceResults(folder, report) if isinstance(report, DeviceComparison) else Result(folder, report)


build.__signature__ = signature("ModelSource")  # type: ignore[attr-defined]
Run.__signature__ = signature("ModelSource")  # type: ignore[attr-defined]
