"""Engines timed in turns in one session, so that a drift of the GPU's clocks hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from trt_mpq.engine.profile.statistics import ratio, spread
from trt_mpq.runtime.base import Array
from trt_mpq.runtime.tensorrt.engine import LoadedEngine
from trt_mpq.runtime.tensorrt.timer import EngineTimer, Iteration, Turn, engine_timer
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Progress
from trt_mpq.types.engine import Conditions, LayerTime, Profile, SideBySide

_LEAST_ITERATIONS = 10
"""Inferences of the brief runs: the other way of launching, and the layers (trtexec runs no fewer either)."""
_LAUNCH_BOUND = 0.8
"""trtexec's share of gpu_compute from which on enqueueing is said to bind. A GPU that waits for launches is at work
from the first launch to the last, so gpu_compute is hardly ever shorter than enqueueing."""


@dataclass(frozen=True)
class _Measured:
    """Everything one engine did in a session. `other` is the brief run the other way, None if there is none.

    `energies_mj` are what the board took for each turn, None where NVML does not tell.
    """

    turns: tuple[Turn, ...]
    warm_up: Turn
    other: Turn | None
    layers: tuple[LayerTime, ...]
    energies_mj: tuple[float | None, ...]

    @property
    def energy_mj(self) -> float | None:
        """Mean of an inference; None where a turn has none."""
        known = [energy for energy in self.energies_mj if energy is not None]
        return sum(known) / len(self.iterations) if len(known) == len(self.turns) else None

    @property
    def iterations(self) -> tuple[Iteration, ...]:
        return tuple(iteration for turn in self.turns for iteration in turn.iterations)

    @property
    def rounds(self) -> list[float]:
        """Median gpu_compute per round."""
        return [_median_compute(turn.iterations) for turn in self.turns]


def time_side_by_side(
    engines: Mapping[str, LoadedEngine],
    inputs: Sequence[Mapping[str, Array]],
    options: EngineOptions,
    *,
    batch: int,
    baselines: Sequence[str],
    seed: int,
    progress: Progress,
    conditions: Callable[[], Conditions],
) -> SideBySide:
    """Time every engine in every round, after a warm-up of all.

    All are launched alike: as a CUDA graph only if each of them can be. The other way is measured briefly too, and
    the layers in a run of their own. The result does not depend on the order of `engines`.

    Args:
        engines: What to time, by name.
        inputs: Input sets that rotate: input name to array [batch, ...].
        options: Warm-up, rounds, least time of a turn, CUDA graph.
        batch: Samples per inference.
        baselines: The fastest of these is what the others are compared with; keys of `engines`, one at least.
        seed: Seed of the orders and of the bootstrap.
        progress: Told of finished turns.
        conditions: Tells the state of the GPU that is timed, right before the rounds and right after.

    Raises:
        RuntimeFailure: An engine does not run.
    """
    names = sorted(engines)
    with ExitStack() as stack:
        timers = {name: stack.enter_context(engine_timer(engines[name], inputs)) for name in names}
        refusals = [f"{name}: {timer.graph_refusal}" for name, timer in timers.items() if timer.graph_refusal]
        graph = options.cuda_graph and not refusals
        warm_up = {name: timers[name].turn(options.warm_up_ms, 1, cuda_graph=graph) for name in names}
        before = conditions()
        turns, energies = _rounds(timers, options, graph, seed, progress, conditions)
        after = conditions()
        measured = {
            name: _Measured(
                turns=tuple(turns[name]),
                warm_up=warm_up[name],
                other=None
                if refusals
                else timers[name].turn(options.round_ms, _LEAST_ITERATIONS, cuda_graph=not graph),
                layers=timers[name].layer_times(_LEAST_ITERATIONS),
                energies_mj=tuple(energies[name]),
            )
            for name in names
        }
    baseline = min(baselines, key=lambda name: _median_compute(measured[name].iterations))
    return SideBySide(
        profiles={name: _profile(measured[name], graph, batch, len(inputs), before, after) for name in engines},
        ratios=tuple(
            ratio(name, baseline, measured[name].rounds, measured[baseline].rounds, seed)
            for name in engines
            if name != baseline
        ),
        graph_refusal=refusals[0] if refusals and options.cuda_graph else None,
    )


def _turn_orders(names: Sequence[str], rounds: int, seed: int) -> Iterator[tuple[str, ...]]:
    """The order of the engines in each round: shuffled, then its mirror image, so that a steady drift cancels."""
    generator = np.random.default_rng(seed)
    order: tuple[str, ...] = ()
    for number in range(rounds):
        order = order[::-1] if number % 2 else tuple(names[i] for i in generator.permutation(len(names)))
        yield order


def _rounds(
    timers: Mapping[str, EngineTimer],
    options: EngineOptions,
    graph: bool,
    seed: int,
    progress: Progress,
    conditions: Callable[[], Conditions],
) -> tuple[dict[str, list[Turn]], dict[str, list[float | None]]]:
    """The turns of every engine, and what the board took for each."""
    turns: dict[str, list[Turn]] = {name: [] for name in timers}
    energies: dict[str, list[float | None]] = {name: [] for name in timers}
    done, total = 0, options.rounds * len(timers)
    for order in _turn_orders(tuple(timers), options.rounds, seed):
        for name in order:
            before = conditions().energy_mj
            turns[name].append(timers[name].turn(options.round_ms, 1, cuda_graph=graph))
            after = conditions().energy_mj
            energies[name].append(None if before is None or after is None else after - before)
            done += 1
            progress(done, total)
    return turns, energies


def _profile(
    measured: _Measured, graph: bool, batch: int, input_sets: int, before: Conditions, after: Conditions
) -> Profile:
    iterations = measured.iterations
    without_graph = measured.other.iterations if graph and measured.other else iterations
    wall_ms = sum(turn.wall_ms for turn in measured.turns)
    return Profile(
        gpu_compute=spread([iteration.gpu_compute for iteration in iterations]),
        enqueue=spread([iteration.enqueue for iteration in iterations]),
        h2d=spread([iteration.h2d for iteration in iterations]),
        d2h=spread([iteration.d2h for iteration in iterations]),
        latency=spread([iteration.latency for iteration in iterations]),
        throughput=1000 * len(iterations) / wall_ms,
        iterations=len(iterations),
        batch=batch,
        cuda_graph=graph,
        input_sets=input_sets,
        warm_up_ms=measured.warm_up.wall_ms,
        other_graph_median=None if measured.other is None else _median_compute(measured.other.iterations),
        launch_bound=bool(
            np.median([iteration.enqueue for iteration in without_graph])
            > _LAUNCH_BOUND * _median_compute(without_graph)
        ),
        before=before,
        after=after,
        layers=measured.layers,
        energy_mj=measured.energy_mj,
    )


def _median_compute(iterations: Sequence[Iteration]) -> float:
    return float(np.median([iteration.gpu_compute for iteration in iterations]))
