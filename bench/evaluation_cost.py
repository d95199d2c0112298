"""What one evaluation of a plan costs, as a ratio to the FP32 evaluation on the same runtime, batch and threads."""

import json
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.real import MODELS, RealModel
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import SCORER
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision
from trt_mpq.types.observer import SilentObserver

ROUNDS = 5
FORMATS = ("fp16", "int8", "fp8", "int4", "nvfp4", "w4a16", "w8a16")


def ratios(real: RealModel) -> dict[str, float]:
    """Median over rounds of (evaluation of the uniform plan, session start included) / (FP32 evaluation).

    Formats that no group can run in are left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_from(
            {
                "model": real.path, "calib": real.calib, "eval": real.eval, "calib_samples": 64,
                "eval_samples": real.cost_samples, "precisions": FORMATS, "exclusions": "none", "device": "rtx5090",
            },
            "evaluation cost",
        )  # fmt: skip
        run = Run(settings, Path(folder), SilentObserver(), "bench.evaluation_cost")
        network, scorer = run.store[run.calibration_stages().scored.network], run.store[SCORER]
        emitter = network.emitter()
        uniform = {name: network.grouping.uniform(Precision(name)) for name in FORMATS}
        plans = {name: plan for name, plan in uniform.items() if Precision(name) in plan.counts()}
        times: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name in ("fp32", *plans):
                started = time.perf_counter()
                scorer.score(network.graph if name == "fp32" else emitter.reference(plans[name]))
                times.setdefault(name, []).append(time.perf_counter() - started)
    return {
        name: round(median(t / base for t, base in zip(own, times["fp32"], strict=True)), 3)
        for name, own in times.items()
    }


def main() -> None:
    """Print the ratios of every model as JSON."""
    print(json.dumps({name: ratios(real) for name, real in MODELS.items()}, indent=2))


if __name__ == "__main__":
    main()
