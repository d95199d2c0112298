"""Ladders with 4 bit on trained transformers: accuracy, size, modelled latency, passes, by metric, search and target.

What the plans would take on another device than that searched for stands beside it. How rows are kept says
`bench.searches`; `python -m bench.four_bits_realised` has NVIDIA's compiler make engines of the plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bench import weights
from bench.decoders import DECODERS
from bench.paper_models import PAPER_MODELS
from bench.real import DATA, RealModel
from bench.searches import Bench, Job, command

LADDERS = ("fp16,fp8,nvfp4", "fp16,int8,w4a16", "fp16,w8a16")
TARGETS = (0.99, 0.999)
METRICS = ("output-sqnr", "quantization-error", "noise", "fisher", "random")
_SENTENCES = weights.PARAPHRASE / "data.toml"
_PARAPHRASE = RealModel(
    "paraphrase", str(weights.PARAPHRASE / "model.onnx"), f"{_SENTENCES}:calib", f"{_SENTENCES}:dev", 500, 500, 32,
    "spearman", ("int8", "fp8"), made=partial(weights.paraphrase_minilm, DATA), outputs=("461",),
)  # fmt: skip
"""A sentence transformer of three layers, in a file that others made: it gives token ids and their embeddings too."""
MODELS = {"minilm": PAPER_MODELS["minilm"], "paraphrase": _PARAPHRASE, "mpnet": PAPER_MODELS["mpnet"]} | DECODERS
_INTRODUCTION = """# Ladders with 4 bit

`python -m bench.four_bits`, searched for an RTX 5090 at batch 32 (`smollm2`: 8; `bytes` has 256 samples); no group is excluded that a format can run.
Accuracy is a share of FP32's, for the decoders of 1 / perplexity; size and **modelled** latency are shares of FP16's; passes over
the evaluation data count the ranking. A search has at most 20 plans. Refined means AWQ's scales of channels, clipped scales and
GPTQ for weights, and corrected biases, each where it does the uniform plan of a format no harm, AWQ's where it does none to all in sum."""  # noqa: E501


def jobs(model: str, samples: int | None) -> Iterator[Job]:
    """The rows of a model: uniform plans and our search, for size too, then other rankings and the paper's searches."""
    for ladder in LADDERS:
        for target in TARGETS:
            yield Job(model, ladder, False, "ilp", METRICS[0], target, samples=samples, objective="size")
        for refined in (True, False):
            for target in TARGETS:
                yield Job(model, ladder, refined, "uniform", METRICS[0], target, samples=samples)
                yield Job(model, ladder, refined, "ilp", METRICS[0], target, samples=samples)
        for search in ("ilp", "bisection", "greedy"):
            for metric in METRICS[1:] if search == "ilp" else METRICS:
                for target in reversed(TARGETS):
                    yield Job(model, ladder, True, search, metric, target, samples=samples)


def _settings(job: Job) -> Mapping[str, Any]:
    return {
        "precisions": job.ladder.split(","), "calib_samples": 128, "calibration": "mse", "sensitivity_samples": 64,
        "max_evaluations": 20, **dict.fromkeys(("awq", "clip_weights", "gptq", "bias_correction"), job.refined),
    }  # fmt: skip


BENCH = Bench("four_bits", MODELS, jobs, _settings, "refined", "rtx5090", ("b200",))


if __name__ == "__main__":
    command(BENCH, __doc__ or "", [_INTRODUCTION], {"eval_samples": 300, "models": ["minilm", "paraphrase", "bytes"]})
