"""From what kernels cost, in time or energy, to the cost of every plan as terms: the rules of `dataflow.py` once more.

A plan decides which groups run in which precision; which tensors are then stored in 8 bit and which conversions
run are conditions on several groups. `Costs` holds one term per condition, so that a solver can weigh them exactly.
A test compares the sum with the cost of random plans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from trt_mpq.latency.base import KernelCosts
from trt_mpq.latency.dataflow import Formats
from trt_mpq.latency.kernels import Kernel
from trt_mpq.search.costs import Choice, Clause, Costs, Term
from trt_mpq.types import Precision, PrecisionPlan

_NOTHING = 1e-12
"""Terms below this, in milliseconds or millijoules, are rounding."""

_Options = Mapping[str, Sequence[Precision]]


def kernel_terms(source: KernelCosts, options: _Options) -> Costs:
    """What every plan costs as terms that add up, for solvers.

    The plan with every group in FP32 is left out unless it is the only one: there the ops outside groups run in
    FP32 too, and here they run in the network's high precision.

    Args:
        source: Tells what kernels cost.
        options: Group id to the precisions it may run in.

    Raises:
        SettingsError: Nothing is known of one of them.
    """
    for precision in dict.fromkeys(precision for own in options.values() for precision in own):
        source.require(PrecisionPlan.of({g: precision if precision in own else own[0] for g, own in options.items()}))
    terms = _Terms(source, options)
    for kernel in source.flow.kernels:
        if kernel.name in source.flow.groups:
            terms.add_group(kernel)
        else:
            terms.add_loose(kernel)
    for tensor in source.flow.tensors:
        terms.add_conversions(tensor)
    for concat, tensor in source.flow.requantized:
        terms.add_requantization(concat, tensor)
    return terms.costs()


class _Terms:
    def __init__(self, source: KernelCosts, options: _Options) -> None:
        self._source, self._flow, self._options = source, source.flow, options
        self._unanimous = self._flow.unanimous()
        lowered = any(precision is not Precision.FP32 for own in options.values() for precision in own)
        self._high = self._flow.top if lowered else Precision.FP32
        self._constant = 0.0
        self._amounts: dict[frozenset[Clause], float] = defaultdict(float)

    def costs(self) -> Costs:
        """What was added, in a fixed order."""
        ordered = sorted(
            (tuple(sorted(clauses)), cost) for clauses, cost in self._amounts.items() if abs(cost) > _NOTHING
        )
        return Costs(self._constant, tuple(Term(cost, clauses) for clauses, cost in ordered))

    def add_group(self, kernel: Kernel) -> None:
        """What a group costs: what it is with all outputs stored wide, and what storing them in 8 bit changes.

        With several outputs the changes need not add up, so every set of them gets what its subsets do not explain.
        """
        for precision in self._options[kernel.name]:
            own: Choice = (kernel.name, precision)
            self._add(self._source.share_cost(precision), [(own,)])
            ties = [tie for tie in dict.fromkeys(map(self._flow.tie, kernel.writes)) if self._storable(tie, precision)]
            explained: dict[frozenset[str], float] = {}
            for narrow in (frozenset(some) for size in range(len(ties) + 1) for some in combinations(ties, size)):
                cost = self._kernel(kernel, precision, narrow)
                explained[narrow] = cost - sum(part for fewer, part in explained.items() if fewer < narrow)
                self._add(explained[narrow], [(own,), *self._agreed(narrow, precision)])

    def add_loose(self, kernel: Kernel) -> None:
        """An op outside every group: the same under every plan, unless it only moves values."""
        wide_cost = self._kernel(kernel, self._flow.high(kernel.name, self._high), frozenset())
        self._constant += wide_cost
        if not self._flow.moves(kernel.name):
            return
        tie = self._flow.tie(next(iter(kernel.writes)))
        for precision in (p for p in Precision if self._storable(tie, p)):
            narrow_cost = self._kernel(kernel, precision, frozenset([tie]))
            self._add(narrow_cost - wide_cost, self._agreed([tie], precision))

    def add_conversions(self, tensor: str) -> None:
        """The conversions of `tensor` to what its readers want, each paid once, and none where it is stored so."""
        readers, tie = self._flow.readers(tensor), self._flow.tie(tensor)
        fixed = {self._flow.high(reader, self._high) for reader in readers if reader not in self._options}
        for wanted in Precision:
            asking = tuple(
                (r, own) for r in readers for own in self._options.get(r, ()) if own.read_in(self._flow.top) is wanted
            )
            always = wanted in fixed
            if not asking and not always:
                continue
            asked = [] if always else [asking]
            for stored, written in self._native(tensor):
                if stored is not wanted:
                    self._add(self._conversion(tensor, stored, wanted), [*asked, *written])
            if self._storable(tie, wanted):
                self._add(-self._conversion(tensor, self._flow.top, wanted), self._agreed([tie], wanted))

    def add_requantization(self, concat: Kernel, tensor: str) -> None:
        """The kernel that converts an operand of `concat` which has a scale of its own: from what either may be in.

        Neither of both ties is stored in 8 bit, one is, or both; each term holds what the ones before do not explain.
        """
        own, result = self._flow.tie(tensor), self._flow.tie(next(iter(concat.writes)))

        def cost(stored: Precision, wanted: Precision) -> float:
            same = stored is wanted and not wanted.quantized
            return 0.0 if same else self._conversion(tensor, stored, wanted)

        wide, top = self._high, self._flow.top
        narrow = [p for p in Precision if self._storable(result, p)]
        for stored, written in self._native(tensor):
            self._add(cost(stored, wide), written)
            for p in narrow:
                self._add(cost(stored, p) - cost(stored, wide), [*written, *self._agreed([result], p)])
        for stored in (p for p in Precision if self._storable(own, p)):
            self._add(cost(stored, wide) - cost(top, wide), self._agreed([own], stored))
            for p in narrow:
                both = cost(stored, p) - cost(top, p) - cost(stored, wide) + cost(top, wide)
                self._add(both, [*self._agreed([own], stored), *self._agreed([result], p)])

    def _native(self, tensor: str) -> Iterable[tuple[Precision, list[Clause]]]:
        """What `tensor` may be stored in when not in 8 bit, and the clauses for it."""
        writer = self._flow.writer(tensor)
        if writer is None:
            return [(Precision.FP32, [])]
        if writer not in self._options:
            return [(self._flow.high(writer, self._high), [])]
        ways: dict[Precision, tuple[Choice, ...]] = defaultdict(tuple)
        for precision in self._options[writer]:
            ways[self._wide(precision)] += ((writer, precision),)
        return [(stored, [choices]) for stored, choices in ways.items()]

    def _wide(self, precision: Precision) -> Precision:
        """What a kernel that computes in `precision` writes where it may not write 8 bit."""
        return self._flow.top if precision.quantized else precision

    def _storable(self, tie: str, precision: Precision) -> bool:
        groups = self._unanimous.get(tie, ())
        return bool(groups) and precision.spec.between_kernels and all(precision in self._options[g] for g in groups)

    def _agreed(self, ties: Iterable[str], precision: Precision) -> list[Clause]:
        return [((group, precision),) for tie in ties for group in self._unanimous[tie]]

    def _kernel(self, kernel: Kernel, precision: Precision, narrow: frozenset[str]) -> float:
        wide = self._wide(precision)
        stored = {tensor: precision if self._flow.tie(tensor) in narrow else wide for tensor in kernel.writes}
        return self._source.kernel_cost(kernel, Formats({kernel.name: precision}, stored))

    def _conversion(self, tensor: str, stored: Precision, wanted: Precision) -> float:
        return self._source.conversion_cost(self._flow.reformat(tensor, stored, wanted, reader=""))

    def _add(self, cost: float, clauses: Iterable[Clause]) -> None:
        """Add a term without what always holds; one that never holds is nothing."""
        needed = {clause for clause in clauses if not any(self._certain(choice) for choice in clause)}
        if () in needed or any((g, p) for (g, p), *rest in needed if not rest and p not in self._options[g]):
            return
        if needed:
            self._amounts[frozenset(needed)] += cost
        else:
            self._constant += cost

    def _certain(self, choice: Choice) -> bool:
        group, precision = choice
        return tuple(self._options[group]) == (precision,)
