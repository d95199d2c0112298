"""The latency model against published TensorRT latencies: `python -m bench.published`.

`python -m bench.published.networks bench/cache/published` writes the networks first, in an environment that has torch,
torchvision, timm, transformers and ultralytics; their groups are kept beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.published.fit import FAMILIES, FOLLOWERS
from bench.published.judge import Comparison, Errors, compared, errors, stated
from bench.published.modelled import flops, modelled_ms
from bench.published.networks import NETWORKS
from bench.published.rows import points
from bench.published.split import SEED, held_out, split
from trt_mpq.types import Precision
from trt_mpq.types.target import LatencyError

LEAST_RATIOS = 5
RESULTS = Path(__file__).resolve().parents[1] / "results"
EARLIER = {
    "seen": Errors(65, 0.0825, 0.003, 0.54, 155, 0.350, -0.123),
    "judged": Errors(74, 0.0805, 0.022, 0.47, 182, 0.273, 0.055),
}
"""The model before it was fitted: one kernel per operator, no caches, efficiencies assumed."""
TARGETS = "error of the ratio 0.060, rank 0.80, error of a time's logarithm 0.25"
_HEAD = "| | ratios | error | bias | rank | times | error of the logarithm | bias |"
_RULE = "|---|---:|---:|---:|---:|---:|---:|---:|"


def table(comparisons: Sequence[Comparison]) -> str:
    """Everything as Markdown."""
    parts = (_summary(comparisons), _by_part(comparisons), _stated(comparisons), _points(comparisons))
    return "\n".join(line for part in parts for line in part) + "\n"


def _summary(comparisons: Sequence[Comparison]) -> Iterator[str]:
    seen, judged = _parts(comparisons)
    architectures, devices = held_out()
    yield "# The latency model against published latencies"
    yield ""
    yield (
        f"{len({one.point.network for one in comparisons})} networks with random weights, {len(comparisons)} points "
        "(a network, a device, a batch) from `data/latency/published.csv`; `python -m bench.published`. Groups and "
        "plans are those of default settings, each plan in one precision as far as groups allow; demoBERT's plugins "
        "keep residuals and normalizations in 8 bit too, and are modelled so. The model was fitted to one "
        f"part and is judged on the other, drawn beforehand (`bench/published/split.py`, seed {SEED}): the devices "
        f"{' and '.join(sorted(devices))}, and on all devices {', '.join(sorted(architectures))}. Which rows count is "
        "said in `bench/published/rows.py`. **Ratio**: time in INT8 over time in FP16; its error is the mean absolute "
        "difference, its rank Spearman's correlation. **Times**: mean absolute error of the natural logarithm, FP32, "
        "FP16 and INT8 alike. **Before** is the model as it was, one kernel per operator and with assumed efficiencies."
    )
    yield from ("", f"Targets on the part that was not fitted: {TARGETS}.", "", _HEAD, _RULE)
    yield _row("fitted part, before", EARLIER["seen"])
    yield _row("fitted part", errors(seen))
    yield _row("**judged part, before**", EARLIER["judged"])
    yield _row("**judged part**", errors(judged))


def _by_part(comparisons: Sequence[Comparison]) -> Iterator[str]:
    _, judged = _parts(comparisons)
    groupings: tuple[tuple[str, Sequence[Comparison], Callable[[Comparison], str]], ...] = (
        ("Judged part, by device", judged, lambda one: one.point.device),
        ("Judged part, by kind of network", judged, lambda one: NETWORKS[one.point.network].kind),
        ("All points, by device", comparisons, lambda one: one.point.device),
        ("All points, by kind of network", comparisons, lambda one: NETWORKS[one.point.network].kind),
    )
    for title, part, name_of in groupings:
        yield from ("", f"## {title}", "", _HEAD, _RULE)
        for name in sorted({name_of(one) for one in part}):
            yield _row(name, errors([one for one in part if name_of(one) == name]))


def stated_errors(comparisons: Sequence[Comparison]) -> dict[str, LatencyError]:
    """What every device file has to say of itself: from its own points, those of its family, or all of them."""
    own = {device: family for family, devices in FAMILIES.items() for device in devices}
    found = {}
    for device in sorted(own | FOLLOWERS):
        candidates = {
            device: [one for one in comparisons if one.point.device == device],
            own.get(device, ""): [one for one in comparisons if own.get(one.point.device) == own.get(device, "")],
            "all devices": comparisons,
        }
        name, part = next((name, part) for name, part in candidates.items() if errors(part).ratios >= LEAST_RATIOS)
        times, ratio = stated(part)
        found[device] = LatencyError(round(times, 2), round(ratio, 3), len(part), name)
    return found


def _stated(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield from ("", "## What device files say of themselves", "")
    yield (
        "Here every network on a device counts once, whatever the number of batches. A device with fewer than "
        f"{LEAST_RATIOS} ratios has the error of its family, a family without any that of all points."
    )
    yield from ("", "| device | error of | points | times | ratio |", "|---|---|---:|---:|---:|")
    for device, error in stated_errors(comparisons).items():
        yield f"| {device} | {error.devices} | {error.points} | {error.times:.2f} | {error.ratio:.3f} |"
    times, ratio = stated(_parts(comparisons)[1])
    yield f"| the judged part | | {len(_parts(comparisons)[1])} | {times:.2f} | {ratio:.3f} |"


def _points(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield from ("", "## Every point", "", "Published against modelled; judged points are marked.", "")
    yield "| network | device | batch | FP32, ms | FP16, ms | INT8, ms | INT8 / FP16 | source | |"
    yield "|---|---|---:|---:|---:|---:|---:|---|---|"
    judged = {id(one) for one in _parts(comparisons)[1]}
    for one in sorted(comparisons, key=lambda one: (one.point.network, one.point.device, one.point.batch)):
        point = one.point
        times = (
            f"{point.ms[p]:.3g} / {one.modelled[p]:.3g}" if p in point.ms else ""
            for p in (Precision.FP32, Precision.FP16, Precision.INT8)
        )
        ratios = ", ".join(f"{published:.2f} / {modelled:.2f}" for published, modelled in one.ratios())
        cells = (point.network, point.device, str(point.batch), *times, ratios, point.source.split(" ")[0])
        yield f"| {' | '.join(cells)} | {'judged' if id(one) in judged else ''} |"


def _parts(comparisons: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    seen = {id(point) for point in split([one.point for one in comparisons])[0]}
    return (
        [one for one in comparisons if id(one.point) in seen],
        [one for one in comparisons if id(one.point) not in seen],
    )


def _row(name: str, found: Errors) -> str:
    figures = (
        str(found.ratios), _figure(found.ratio, ".3f"), _figure(found.bias, "+.3f"), _figure(found.rank, ".2f"),
        str(found.times), _figure(found.log, ".2f"), _figure(found.offset, "+.2f"),
    )  # fmt: skip
    return f"| {' | '.join((name, *figures))} |"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _as_json(comparisons: Sequence[Comparison]) -> str:
    seen, judged = _parts(comparisons)

    def by_device(part: Iterable[Comparison]) -> dict[str, dict[str, float | None]]:
        own = list(part)
        return {
            device: asdict(errors([one for one in own if one.point.device == device]))
            for device in sorted({one.point.device for one in own})
        }

    content = {
        "before": {part: asdict(found) for part, found in EARLIER.items()},
        "fitted": asdict(errors(seen)),
        "judged": asdict(errors(judged)),
        "judged_by_device": by_device(judged),
        "by_device": by_device(comparisons),
        "all": asdict(errors(comparisons)),
    }
    return json.dumps(content, indent=2) + "\n"


def main() -> None:
    """Compare, and write the tables."""
    comparisons = compared(points(flops()), modelled_ms)
    text = table(comparisons)
    (RESULTS / "published.md").write_text(text, encoding="utf-8")
    (RESULTS / "published.json").write_text(_as_json(comparisons), encoding="utf-8")
    print(text.split("\n## Every point")[0])


if __name__ == "__main__":
    main()
