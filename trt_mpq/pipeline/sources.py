"""What a run starts from: the model file, the data, and what the settings name.

These values are made anew by every process. Each has a digest of its own, so that stages depend on what data and names
come to, not on how they are spelled.
"""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import fixed_batch
from trt_mpq.dataset.pixels import Pixels, pixels_from
from trt_mpq.dataset.sequences import data_for, recorded
from trt_mpq.errors import DataError
from trt_mpq.export import exported_from
from trt_mpq.latency.device_table import DeviceTable, load_table
from trt_mpq.latency.target import target_from_name
from trt_mpq.model import model_digest, prepare_model
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Model, Precision, Target

SOURCE = Stage("source", lambda job: job.settings.model, reads=("model",), digest=model_digest)
"""The model file."""

PREPARED = Stage(
    "model",
    lambda job: prepare_model(
        job[SOURCE], job.path("model.onnx"), job.settings.batch_axes, from_qdq=job.settings.from_qdq,
        states=job.settings.next_states,
    ),
    json_kind(Model), needs=(SOURCE,), reads=("batch_axes", "from_qdq", "next_states"),
    files=("model.onnx", "model.onnx.data"),
)  # fmt: skip
"""The model checked and folded."""

RUNTIME = Stage(
    "runtime", lambda job: OnnxRuntime(job.settings.threads), uses=("threads",), digest=lambda runtime: runtime.name
)
"""Where graphs run."""

TARGET = Stage(
    "target", lambda job: target_from_name(job.settings.device), reads=("device",), digest=content_digest(Target)
)
"""The modelled GPU."""


def model_title(model: Path) -> str:
    """The model as the user called it: its file, or what that was exported from."""
    return Path(exported_from(model) or model).name


def _given_table(job: Job) -> DeviceTable | None:
    named = job.settings.latency in ("auto", "modelled", "measured")
    return None if named else load_table(Path(job.settings.latency))


GIVEN_TABLE = Stage("given-table", _given_table, reads=("latency",), digest=content_digest(DeviceTable | None))
"""The device table that `--latency` names; None if it names another source."""


def _refuge(job: Job) -> Precision:
    """What runs instead of FP16 where that overflows: BF16 if the device has it, else FP32, as beside BF16."""
    bf16 = job.settings.top is Precision.FP16 and job[TARGET].supports(Precision.BF16)
    return Precision.BF16 if bf16 else Precision.FP32


REFUGE = Stage("refuge", _refuge, reads=("top",), needs=(TARGET,), digest=content_digest(Precision))
"""What runs where the high precision overflows."""


PIXELS = Stage(
    "pixels", lambda job: pixels_from(job.settings.preprocess, job.settings.model), reads=("preprocess", "model"),
    digest=content_digest(Pixels | None),
)  # fmt: skip
"""How images of folders become the model's input; None if nothing says it."""


def _opened_calibration(job: Job) -> Samples:
    if job.settings.calib is None:
        raise DataError("no calibration data: pass --calib with an .npz, an .npy, a folder of images or a recipe")
    return data_for(job[PREPARED], job.settings.calib, job[PIXELS])


_OPENED_CALIBRATION = Stage(
    "opened-calibration",
    _opened_calibration,
    reads=("calib",),
    needs=(PREPARED, PIXELS),
    digest=lambda data: data.fingerprint,
)


def _rows(job: Job, samples: Samples, count: int | None) -> Samples:
    """Single rows of the first `count` samples: of pairs, or the steps of sequences with the states of FP32."""
    if samples.steps is None:
        return _limited(samples.single_rows(), count)
    model = job[PREPARED]
    return recorded(_limited(samples, count), job[RUNTIME].load(job.path(model.path)), model.inputs)


CALIBRATION = Stage(
    "calibration-data", lambda job: _rows(job, job[_OPENED_CALIBRATION], job.settings.calib_samples),
    reads=("calib_samples",), needs=(_OPENED_CALIBRATION, PREPARED), uses=(RUNTIME,),
    digest=lambda data: data.fingerprint,
)  # fmt: skip
"""The calibration data, one row of the model's batch per sample."""


def _batch(job: Job) -> int:
    return fixed_batch(job[PREPARED].inputs) or job.settings.batch


BATCH = Stage("batch", _batch, reads=("batch",), needs=(PREPARED,), digest=str)
"""Rows per inference: what was asked for, or what the model fixes.

It is what an engine gets at once, and what latencies are for. Where a sample is several rows, fewer samples are
evaluated at a time.
"""


def _evaluation(job: Job) -> Samples:
    settings, batch = job.settings, job[BATCH]
    if settings.eval is None:
        found = _limited(job[_OPENED_CALIBRATION], settings.calib_samples)
    else:
        found = _limited(data_for(job[PREPARED], settings.eval, job[PIXELS]), settings.eval_samples)
    if found.rows > batch:
        raise DataError(
            f"{found.source}: a sample is {found.rows} rows and a batch {batch}: pass --batch {found.rows} or more"
        )
    return found


EVALUATION = Stage(
    "evaluation-data", _evaluation, reads=("eval", "eval_samples", "calib_samples"), needs=(PREPARED, BATCH, PIXELS),
    uses=(_OPENED_CALIBRATION,), digest=lambda data: data.fingerprint,
)  # fmt: skip
"""The evaluation data; without any, the calibration data."""

EVALUATION_ROWS = Stage(
    "evaluation-rows", lambda job: _rows(job, data, None) if (data := job[EVALUATION]).steps else data,
    needs=(EVALUATION, PREPARED), uses=(RUNTIME,), digest=lambda data: data.fingerprint,
)  # fmt: skip
"""The evaluation data for what looks at single runs: the steps of sequences, with the states that FP32 has there."""


def _sample_shapes(job: Job) -> dict[str, tuple[int, ...]]:
    inputs = job[PREPARED].inputs
    if all(isinstance(size, int) for spec in inputs for size in spec.row_shape):
        return {spec.name: tuple(n if isinstance(n, int) else 1 for n in spec.shape) for spec in inputs}
    sample = next(job[CALIBRATION].batches(1)).feeds
    return {
        spec.name: tuple(
            n if isinstance(n, int) else given for n, given in zip(spec.shape, sample[spec.name].shape, strict=True)
        )
        for spec in inputs
    }


SAMPLE_SHAPES = Stage(
    "sample-shapes", _sample_shapes, needs=(PREPARED,), uses=(CALIBRATION,),
    digest=content_digest(dict[str, tuple[int, ...]]),
)  # fmt: skip
"""Shape of one row per input as the data stores it, batch dimension 1, or what the model fixes.

Data is opened only where a dimension beside the batch is dynamic.
"""


def _notes(job: Job) -> tuple[str, ...]:
    notes = list(dict.fromkeys((*job[CALIBRATION].notes, *job[EVALUATION].notes)))
    if job.settings.eval is None:
        notes.append("no --eval was given: plans are judged on the calibration data, which flatters them")
    return tuple(notes)


DATA_NOTES = Stage("data-notes", _notes, reads=("eval",), needs=(CALIBRATION, EVALUATION))
"""What the user should know about the data."""


def _limited(samples: Samples, count: int | None) -> Samples:
    return samples if count is None else samples.take(count)


def data_digests(store: Store) -> dict[str, str]:
    """Digests of the content of calibration and evaluation data, by the settings that they are given as."""
    given = {"calib": CALIBRATION} | ({} if store.settings.eval is None else {"eval": EVALUATION})
    return {name: store.digest(stage) for name, stage in given.items()}
