"""The central value, and what a search knows of it: rankings, scores, evaluations."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trt_mpq.errors import SettingsError
from trt_mpq.types.precision import Precision


class _Assignable(Protocol):
    """What a plan asks of a group."""

    @property
    def id(self) -> str:
        """Its name."""

    def widest(self, *preferred: Precision) -> Precision:
        """The first of `preferred` that it may run in, else the widest that it may."""


@dataclass(frozen=True)
class PrecisionPlan:
    """The central value: one precision per group, in network order. Hashable."""

    assignments: tuple[tuple[str, Precision], ...]

    @classmethod
    def of(cls, assignments: Mapping[str, Precision]) -> PrecisionPlan:
        """A plan from a mapping whose order is the network order."""
        return cls(tuple(assignments.items()))

    @classmethod
    def uniform(cls, groups: Iterable[_Assignable], *preferred: Precision) -> PrecisionPlan:
        """For every group the first of `preferred` that it allows, else the widest that it does."""
        return cls(tuple((g.id, g.widest(*preferred)) for g in groups))

    def __getitem__(self, group_id: str) -> Precision:
        return self.as_dict()[group_id]

    def as_dict(self) -> dict[str, Precision]:
        """Group id to precision, in network order."""
        return dict(self.assignments)

    def replace(self, changes: Mapping[str, Precision]) -> PrecisionPlan:
        """The same plan with some groups changed."""
        return PrecisionPlan(tuple((g, changes.get(g, p)) for g, p in self.assignments))

    def counts(self) -> dict[Precision, int]:
        """How many groups run in each precision that occurs, widest first."""
        tally = Counter(p for _, p in self.assignments)
        return {p: tally[p] for p in Precision if tally[p]}

    @property
    def deployable(self) -> bool:
        """Whether TensorRT has kernels for all its precisions."""
        return all(p.deployable for _, p in self.assignments)

    @property
    def portable(self) -> bool:
        """Whether the typed file of it is plain ONNX, which ONNX Runtime runs too."""
        return all(p.spec.portable for _, p in self.assignments)

    @property
    def digest(self) -> str:
        """Short stable hash, the key of the evaluation cache."""
        text = ";".join(f"{g}={p.value}" for g, p in self.assignments)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Ranking:
    """Sensitivity of every group for every candidate precision; larger means more sensitive.

    `scores[precision][group_id]`; `groups` is the network order and breaks ties. One without scores, whose `metric` is
    empty, stands where a ranking would decide nothing. `harms`, in the form of `scores`, is what every group adds by
    itself, where scores say that of a group together with others; empty where they say just that.
    """

    metric: str
    seed: int
    groups: tuple[str, ...]
    scores: Mapping[Precision, Mapping[str, float]]
    forward_passes: float = 0.0
    """Cost in samples run forward through the network (a backward pass counts as two)."""
    harms: Mapping[Precision, Mapping[str, float]] = field(default_factory=dict)

    def order(self, precision: Precision) -> tuple[str, ...]:
        """Group ids that have a score for `precision`, least sensitive first."""
        scores = self.scores.get(precision, {})
        position = {g: i for i, g in enumerate(self.groups)}
        return tuple(sorted(scores, key=lambda g: (scores[g], position[g])))


@dataclass(frozen=True)
class Score:
    """A task score: higher is better. `stderr` is None when the metric is the user's own one number for all."""

    value: float
    stderr: float | None
    samples: int


@dataclass(frozen=True)
class DeliveredScores:
    """What the files of a plan score as they lie on disk.

    `typed` is None where ONNX Runtime does not run it, `weak` where there is no such file.
    """

    reference: Score
    typed: Score | None = None
    weak: Score | None = None


@dataclass(frozen=True)
class Judgement:
    """Whether a plan keeps the target, and the score that says so.

    `complete` tells whether the score covers every evaluation sample; otherwise a test stopped early because the
    samples seen so far decided.
    """

    score: Score
    feasible: bool
    complete: bool


@dataclass(frozen=True)
class Evaluation:
    """One plan tried by the search.

    `note` says which step asked for it; `complete` whether the score covers every evaluation sample; `delivered` is
    the file that is delivered for the plan beside it, None if the search did not come to ask that; `amount` what the
    search minimises, None where that is the latency.
    """

    plan: PrecisionPlan
    score: Score
    latency_ms: float
    feasible: bool
    note: str
    complete: bool = True
    delivered: Score | None = None
    amount: float | None = None

    @property
    def cost(self) -> float:
        """What the search minimises."""
        return self.latency_ms if self.amount is None else self.amount


@dataclass(frozen=True)
class SearchResult:
    """Outcome of a search: the chosen evaluation and the path that led there, in order.

    `stopped` names the budget that ended the search early, None if it ended by itself. `unranked` says why no ranking
    could have changed it, None if one was used. `gap` is how far, as a share, the worst plan that a solver proposed may
    have been from the best there was: 0 if all were exact, infinite if the solver came to no answer, None without one.
    """

    algorithm: str
    ladder: tuple[Precision, ...]
    chosen: Evaluation
    path: tuple[Evaluation, ...]
    stopped: str | None = None
    unranked: str | None = None
    gap: float | None = None

    def tried(self, digest: str) -> PrecisionPlan:
        """The plan of the path whose digest begins with `digest`; raises SettingsError unless there is exactly one."""
        found = {one.plan.digest: one.plan for one in (*self.path, self.chosen) if one.plan.digest.startswith(digest)}
        if len(found) != 1:
            raise SettingsError(
                f"{len(found) or 'none'} of the plans that were tried begins with {digest!r}: give the digest that the "
                "report shows"
            )
        return next(iter(found.values()))

    @property
    def samples_run(self) -> int:
        """Samples that were run to score the plans of the path, and the files of those whose file was asked."""
        files = (tried.delivered.samples for tried in self.path if tried.delivered)
        return sum(tried.score.samples for tried in self.path) + sum(files)
