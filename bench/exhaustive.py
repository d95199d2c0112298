"""How far searches are from the true optimum, on the demo's network, which is small enough to try every plan.

All plans are sorted by modelled latency; the first that keeps the target, as it is searched and as a file, is the
optimum. `sqnr` of the outputs is the metric, because by top-1 every plan is good enough. Every plan is evaluated on
every sample.
"""

import itertools
import json
import tempfile
from pathlib import Path

from trt_mpq.demo import prepare_demo
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.observer import SilentObserver

CASES = {"int8": (0.9995, 0.9999, 0.99995), "fp8": (0.9995, 0.9999, 0.99995), "int8,int4": (0.9995, 0.9999)}
"""Targets by ladder. INT4 is modelled as fast as INT8, so the optimum of a higher target comes after 10,000 plans."""
SEARCHES = ("ilp", "bisection", "greedy")


def optimum(run: Run) -> tuple[float, int]:
    """Latency of the fastest plan that keeps the target, in ms, and how many were tried, the fastest first."""
    [problem] = run.store[run.search_stages().problems]
    evaluate = problem.evaluate
    choices = [[p for p in problem.ladder if g.allows(p)] or [problem.grouping.widest(g)] for g in problem.groups]
    names = [group.id for group in problem.groups]
    plans = [PrecisionPlan(tuple(zip(names, chosen, strict=True))) for chosen in itertools.product(*choices)]
    plans.sort(key=problem.latency.of)
    for tried, plan in enumerate(plans, start=1):
        if evaluate.score(plan).value >= problem.required and evaluate.delivered(plan).value >= problem.required:
            return problem.latency.of(plan), tried
    raise ValueError("no plan keeps the target")


def compared(folder: Path, ladder: str, target: float) -> dict[str, object]:
    """Latency of the optimum, and of what every search finds as a ratio to it."""
    given = {
        **prepare_demo(folder), "target_accuracy": target, "precisions": f"fp16,{ladder}", "exclusions": "none",
        "calibration": "mse", "confidence": 1.0, "refine_plan": False, "device": "l4", "latency": "modelled",
    }  # fmt: skip
    row: dict[str, object] = {"ladder": ladder, "target": target}
    for search in SEARCHES:
        run = Run(settings_from({**given, "search": search}, "exhaustive"), folder, SilentObserver(), "exhaustive")
        result = run.search()
        if "optimum_ms" not in row:
            row["optimum_ms"], row["plans_to_optimum"] = optimum(run)
        ratio = result.chosen.latency_ms / float(str(row["optimum_ms"]))
        row[search] = {"latency_of_optimum": round(ratio, 4), "evaluations": len(result.path)}
    return row


def main() -> None:
    """Print a row per ladder and target as JSON lines."""
    for ladder, targets in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            for target in targets:
                print(json.dumps(compared(Path(folder), ladder, target)), flush=True)


if __name__ == "__main__":
    main()
