"""What every search shares: the problem, the record of plans tried, and how the winner is picked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil, inf
from typing import Protocol

from trt_mpq.errors import TargetNotReachable
from trt_mpq.search.costs import Answer, Cost
from trt_mpq.types import (
    Evaluation,
    Grouping,
    Judgement,
    LayerGroup,
    Precision,
    PrecisionPlan,
    Ranking,
    Score,
    SearchResult,
)


class Evaluator(Protocol):
    """What a search asks of plans; expensive."""

    @property
    def stops_early(self) -> bool:
        """Whether judging may take fewer samples than scoring."""

    def score(self, plan: PrecisionPlan) -> Score:
        """Task score of `plan` on every sample."""

    def judge(self, plan: PrecisionPlan) -> Judgement:
        """Whether `plan` keeps the required score, told from as few samples as are sure."""

    def delivered(self, plan: PrecisionPlan) -> Score:
        """What the file scores that is delivered for `plan`; the rounding of another runtime sets them apart."""

    def seconds(self, plan: PrecisionPlan) -> float:
        """What judging and scoring `plan` took when it was done."""


@dataclass(frozen=True)
class Budget:
    """What a search may spend; None is no limit. The uniform plan of the widest precision is always tried."""

    evaluations: int | None = None
    seconds: float | None = None


class _SpentError(Exception):
    """The budget is spent; ends a search inside `Trail.until_spent`."""


@dataclass(frozen=True)
class Limit:
    """A target for something cheap to tell, latency or size, in place of one for accuracy.

    Attributes:
        words: What is limited to what, as the end of "a plan that ...": "takes at most 3 ms".
        most: The largest amount allowed.
        cost: The amount of a plan.
    """

    words: str
    most: float
    cost: Cost

    def allows(self, plan: PrecisionPlan) -> bool:
        """Whether `plan` keeps the limit."""
        return self.cost.of(plan) <= self.most


@dataclass(frozen=True)
class Problem:
    """Find the plan with the lowest cost whose score is at least `required`, or the best score within `limit`.

    Attributes:
        grouping: The groups, and what those run in that may not run in the widest of the ladder.
        ladder: Precisions to choose from, widest first, e.g. (fp16, fp8, int8); the first is the high precision.
        ranking: Sensitivity of every group for every precision below the first.
        evaluate: Scores plans.
        latency: Milliseconds of plans, which every evaluation says.
        required: Lowest acceptable score of a plan and of its file, absolute, compared exactly; means nothing where
            there is a limit.
        objective: What is minimised, if it is not the latency.
        limit: The target, if it is not the required score: of the plans that keep it, the one that scores best.
        budget: What the search may spend.
        hint: A plan that a search may try first; None for none.
        below: Only plans of less cost than this are looked for.
        notify: Called with every new evaluation as it is made.
        in_words: Scores as people know them, with enough digits to tell them apart.
        solved: What solvers were asked before, and what they answered; copies of a problem share it, so that a
            search that is run ahead solves nothing twice.
    """

    grouping: Grouping
    ladder: tuple[Precision, ...]
    ranking: Ranking
    evaluate: Evaluator
    latency: Cost
    required: float
    objective: Cost | None = None
    limit: Limit | None = None
    budget: Budget = Budget()
    hint: PrecisionPlan | None = None
    below: float = inf
    notify: Callable[[Evaluation], None] = lambda evaluation: None
    in_words: Callable[[Sequence[float]], Sequence[str]] = lambda scores: [f"{score:.6g}" for score in scores]
    solved: dict[Hashable, Answer] = field(default_factory=dict, compare=False, repr=False)

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """All groups, in network order."""
        return self.grouping.groups

    @property
    def cost(self) -> Cost:
        """What is minimised."""
        return self.objective or self.latency

    def evaluation(self, plan: PrecisionPlan, judge: Callable[[PrecisionPlan], Judgement], note: str) -> Evaluation:
        """`plan` as `judge` finds it; costs come first, as they refuse what the device cannot compute."""
        latency_ms, amount = self.latency.of(plan), self.objective.of(plan) if self.objective else None
        judged = judge(plan)
        return Evaluation(plan, judged.score, latency_ms, judged.feasible, note, judged.complete, amount=amount)

    def judged(self, plan: PrecisionPlan) -> Judgement:
        """Whether `plan` is feasible, as cheaply as it can be told."""
        early = self.evaluate.stops_early and not self.limit
        return self.evaluate.judge(plan) if early else self.measured(plan)

    def measured(self, plan: PrecisionPlan) -> Judgement:
        """The same, from every sample."""
        score = self.evaluate.score(plan)
        return Judgement(score, self.limit.allows(plan) if self.limit else score.value >= self.required, complete=True)

    def confirmed(self, feasible: Evaluation) -> Evaluation:
        """`feasible` with the score of its file, and infeasible if that is less than what is required.

        The widest uniform plan is what there is without a search; its file is taken as it is.
        """
        if self.limit or feasible.delivered or feasible.plan == self.grouping.uniform(self.ladder[0]):
            return feasible
        file = self.evaluate.delivered(feasible.plan)
        return replace(feasible, delivered=file, feasible=file.value >= self.required)

    def preference(self, feasible: Evaluation) -> tuple[float, float]:
        """Sorts feasible plans, the best first: by cost, or with a limit by score, then by the other."""
        by_cost, by_score = feasible.cost, -feasible.score.value
        return (by_score, by_cost) if self.limit else (by_cost, by_score)

    def is_uniform(self, plan: PrecisionPlan) -> bool:
        """Whether `plan` is the uniform plan of a precision of the ladder."""
        return any(plan == self.grouping.uniform(precision) for precision in self.ladder)

    def share_of_greedy(self, parts: int, fewest: int) -> int:
        """One in `parts` of the evaluations that greedy makes at most, and at least `fewest`."""
        rungs = len(self.ladder)
        return max(fewest, ceil(((rungs - 1) * len(self.groups) + rungs) / parts))

    def movable(self, plan: PrecisionPlan, rung: int) -> tuple[str, ...]:
        """Groups that may step from ``ladder[rung]`` to the next precision, least sensitive first.

        Those are the groups that took every earlier step they allow: a group that may run in fp16 and int8 but
        not in fp8 waits in fp16 for the step to int8.
        """
        precisions, reached, target = plan.as_dict(), self.ladder[: rung + 1], self.ladder[rung + 1]
        kept_up = {g.id for g in self.groups if g.allows(target) and precisions[g.id] is self._narrowest(g, reached)}
        return tuple(group for group in self.ranking.order(target) if group in kept_up)

    def _narrowest(self, group: LayerGroup, ladder: tuple[Precision, ...]) -> Precision:
        return next((p for p in reversed(ladder) if group.allows(p)), self.grouping.widest(group))


class Search(Protocol):
    """An algorithm that solves a `Problem`."""

    @property
    def name(self) -> str:
        """Spelling on the command line."""

    @property
    def accuracy_only(self) -> bool:
        """Whether its steps mean nothing but to keep a score, so that it finds no plan within a limit."""

    def unranked(self, problems: Sequence[Problem]) -> SearchResult | None:
        """What it finds where no ranking can change that, asked of problems whose ranking has no scores; else None.

        Raises:
            TargetNotReachable: It finds nothing, whatever the ranking.
        """

    def run(self, problem: Problem) -> SearchResult:
        """The best plan evaluated; raises TargetNotReachable if none meets the requirement."""


class Trail:
    """The plans a search has tried, in order: each is judged once, and the winner measured on every sample.

    Args:
        problem: What is searched.
        usual: Evaluations that the search allows itself where the problem has no budget of them; None for any number.
        misses: The same of plans that turn out to be infeasible since the best so far was found.
    """

    def __init__(self, problem: Problem, usual: int | None = None, misses: int | None = None) -> None:
        self._problem = problem
        self._tried: dict[PrecisionPlan, Evaluation] = {}
        self._usual, self._misses = usual, misses
        self._stopped: str | None = None
        self._gap: float | None = None

    @property
    def tried(self) -> Mapping[PrecisionPlan, Evaluation]:
        """Every plan tried, in order."""
        return self._tried

    @contextmanager
    def until_spent(self, beyond_usual: bool = False) -> Iterator[None]:
        """Leave the block when the budget is spent: `result` then is the best so far.

        With `beyond_usual` only a budget of the problem counts, not what the search usually allows itself.
        """
        if beyond_usual:
            self._usual = self._misses = None
        with suppress(_SpentError):
            yield

    def proposed(self, answer: Answer) -> PrecisionPlan | None:
        """The plan that a solver proposes; the result says how far any of them may have been from the best."""
        self._gap = max(self._gap or 0.0, answer.gap)
        return answer.plan

    def evaluate(self, plan: PrecisionPlan, note: str) -> Evaluation:
        """Judge and time `plan`, or recall it; `note` says which step asked first."""
        return self._try(plan, self._problem.judged, note)

    def measure(self, plan: PrecisionPlan, note: str) -> Evaluation:
        """The same, from every sample."""
        return self._try(plan, self._problem.measured, note)

    def _try(self, plan: PrecisionPlan, judge: Callable[[PrecisionPlan], Judgement], note: str) -> Evaluation:
        if plan not in self._tried:
            if self._tried:
                self._require_budget()
            self._record(plan, judge, note)
        return self._tried[plan]

    def best(self) -> Evaluation | None:
        """The feasible plan that the problem prefers among those tried, the earliest of equals."""
        feasible = [tried for tried in self._tried.values() if tried.feasible]
        return min(feasible, key=self._problem.preference, default=None)

    @property
    def doubts_files(self) -> bool:
        """Whether the file of a plan missed that seemed feasible, or none was asked for yet."""
        asked = [tried for tried in self._tried.values() if tried.delivered]
        return not asked or not all(tried.feasible for tried in asked)

    def _require_budget(self) -> None:
        """Raise _SpentError if one more plan is more than the budget allows, and remember why."""
        most, seconds = self._problem.budget.evaluations, self._problem.budget.seconds
        if most is not None and len(self._tried) >= most:
            self._stopped = "--max-evaluations"
        elif seconds is not None and self._seconds() >= seconds:
            self._stopped = "--max-seconds"
        elif most is None and self._spent_what_is_usual():
            pass
        else:
            return
        raise _SpentError

    def _spent_what_is_usual(self) -> bool:
        tried, best = list(self._tried.values()), self.best()
        missed = sum(not later.feasible for later in tried[tried.index(best) + 1 if best else 0 :])
        spent = ((len(tried), self._usual), (missed, self._misses))
        return any(most is not None and made >= most for made, most in spent)

    def _seconds(self) -> float:
        """What the evaluations took when they were done, so that a resumed search stops where the first did."""
        return sum(self._problem.evaluate.seconds(plan) for plan in self._tried)

    def evaluate_uniform(self) -> tuple[Evaluation, ...]:
        """Measure the uniform plan of every precision, widest first: the baselines of the report."""
        problem = self._problem
        return tuple(self.measure(problem.grouping.uniform(p), f"uniform {p}") for p in problem.ladder)

    def result(self, algorithm: str) -> SearchResult:
        """The best feasible plan tried.

        Raises:
            TargetNotReachable: No plan tried is feasible.
        """
        if (best := self.standing()) is None:
            raise TargetNotReachable(self._explanation())
        path = tuple(self._tried.values())
        return SearchResult(algorithm, self._problem.ladder, best, path, self._stopped, gap=self._gap)

    def standing(self) -> Evaluation | None:
        """The best of all plans tried that are feasible on every sample, and so are their files; None if none is."""
        while not self.best_stands():
            pass
        return self.best()

    def stands(self, plan: PrecisionPlan) -> bool:
        """Whether `plan`, which was tried, is the best of all that stand, see `standing`."""
        best = self.standing()
        return best is not None and best.plan == plan

    def best_stands(self) -> bool:
        """Whether the best plan is feasible on every sample, and so is its file; if not, more is known of it now.

        Either it is known as infeasible, or its score on every sample makes way for a plan of the same latency. True
        also if no plan is feasible.
        """
        best = self.best()
        if best is None:
            return True
        if not best.complete:
            best = self._record(best.plan, self._problem.measured, best.note)
        if not best.feasible:
            return False
        confirmed = self._problem.confirmed(best)
        if confirmed != best:
            self._keep(confirmed)
        return confirmed == self.best()

    def _record(self, plan: PrecisionPlan, judge: Callable[[PrecisionPlan], Judgement], note: str) -> Evaluation:
        return self._keep(self._problem.evaluation(plan, judge, note))

    def _keep(self, tried: Evaluation) -> Evaluation:
        self._tried[tried.plan] = tried
        self._problem.notify(tried)
        return tried

    def _explanation(self) -> str:
        if limit := self._problem.limit:
            least = min(map(limit.cost.of, self._tried))
            return f"none of {len(self._tried)} plans tried {limit.words}: the least is {least:.6g}"
        best = max(self._tried.values(), key=lambda tried: tried.score.value)
        required, scored = self._problem.in_words((self._problem.required, best.score.value))
        mix = ", ".join(f"{count} x {precision}" for precision, count in best.plan.counts().items())
        return (
            f"none of {len(self._tried)} plans tried reaches the required score {required}: the best "
            f"({best.note}: {mix}) scores {scored}; lower --target-accuracy or raise --max-loss, "
            "give more calibration data or choose other --precisions"
        )


_Step = Callable[[Trail, PrecisionPlan, Precision, tuple[str, ...]], PrecisionPlan]
"""(trail, accepted plan, next precision, movable groups with the least sensitive first) to the next accepted plan."""


def descend(problem: Problem, algorithm: str, step: _Step) -> SearchResult:
    """Go down the precision ladder from the widest uniform plan, one precision at a time.

    The walk of both sensitivity-guided searches of Schaefer et al., "Mixed Precision Post Training Quantization of
    Neural Networks with Sensitivity Guided Search", 2023. The abstract names the searches without spelling them
    out; the walk is our reading. The uniform plans come first: they are the baselines, and one may end a step early.

    Raises:
        TargetNotReachable: No plan tried is feasible.
    """
    trail = Trail(problem)
    with trail.until_spent():
        widest = trail.evaluate_uniform()[0]
        plan = widest.plan
        for rung, precision in enumerate(problem.ladder[1:] if widest.feasible else ()):
            plan = step(trail, plan, precision, problem.movable(plan, rung))
    return trail.result(algorithm)
