"""What a whole search by `ilp` takes the solver on a deep network with three rungs: `python -m bench.solver`.

114 groups of ResNet-101's shape, FP16, FP8 and INT8 mixed, modelled for an L4. Scores are made up: harms spread over
two orders of magnitude, and a ranking that is off by a factor of three. Nothing is run but the solver.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from bench.grouping import all_groups
from bench.networks import ResNet
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.search import Cost, Problem, search_from_name
from trt_mpq.types import Grouping, Judgement, Precision, PrecisionPlan, Ranking, Score

DEPTHS, WIDTH, IMAGE, CLASSES = (3, 8, 22, 3), 16, (3, 64, 64), 100
LADDER = (Precision.FP16, Precision.FP8, Precision.INT8)
REQUIRED = 0.98


class MadeUp:
    """Scores of plans: 1 less the harm of every choice; files score the same."""

    stops_early = False

    def __init__(self, harm: dict[tuple[str, Precision], float]) -> None:
        self._harm = harm

    def score(self, plan: PrecisionPlan) -> Score:
        return Score(1 - sum(self._harm.get(choice, 0.0) for choice in plan.assignments), 0.005, 1000)

    def judge(self, plan: PrecisionPlan) -> Judgement:
        raise NotImplementedError("nothing stops early")

    def delivered(self, plan: PrecisionPlan) -> Score:
        return self.score(plan)

    def seconds(self, plan: PrecisionPlan) -> float:
        return 0.0


def groups() -> Grouping:
    """The groups of the network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(ResNet(0, batch_norm=False).build(DEPTHS, WIDTH, IMAGE, CLASSES).SerializeToString())
        prepare_model(path, Path(folder) / "model.onnx")
        return all_groups(load_graph(Path(folder) / "model.onnx"), {"input": (1, *IMAGE)})


def problem_of(grouping: Grouping, seed: int) -> Problem:
    """A problem with harms drawn from `seed`."""
    drawn, narrower = np.random.default_rng(seed), LADDER[1:]
    harm, seen = {}, {precision: dict[str, float]() for precision in narrower}
    for group in grouping.groups:
        own = 10 ** drawn.uniform(-4, -2)
        for precision in filter(group.allows, narrower):
            harm[group.id, precision] = own * 10 ** drawn.uniform(-0.3, 0.3)
            seen[precision][group.id] = harm[group.id, precision] * 10 ** drawn.normal(0, 0.5)
    latency = LatencyModel(grouping, target_from_name("l4"), 32)
    ranking = Ranking("made up", seed, tuple(group.id for group in grouping.groups), seen)
    cost = Cost(latency.plan_ms, kernel_terms(latency, grouping.options(LADDER)))
    return Problem(grouping, LADDER, ranking, MadeUp(harm), cost, REQUIRED)


def main() -> None:
    """Print what one search takes."""
    problem = problem_of(groups(), seed=0)
    started = time.process_time()
    result = search_from_name("ilp").run(problem)
    asked = f"{len(result.path)} plans, {len(problem.solved)} questions, gap {result.gap:.1e}"
    seconds = time.process_time() - started
    print(f"{len(problem.groups)} groups, {len(LADDER)} rungs: {asked}, {seconds:.0f} s of one core")


if __name__ == "__main__":
    main()
