"""Groups whose precision the user decides: `--keep PRECISION:PATTERN` and `--exclude PATTERN`, as exclusions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from trt_mpq.errors import SettingsError
from trt_mpq.types import Grouping, LayerGroup, Precision


def pinned(grouping: Grouping, keep: Sequence[str], exclude: Sequence[str]) -> Grouping:
    """`grouping` with what the user decided; patterns are globs over group ids, whose leading slash may be left out.

    Args:
        grouping: All groups.
        keep: `precision:pattern`, as the settings check it; the groups run in that precision.
        exclude: Patterns of groups that stay out of 8 bit and less.

    Raises:
        SettingsError: A pattern matches no group, or a group cannot run in the precision it is to keep.
    """
    found = {group.id: group for group in grouping.groups}
    for spec in keep:
        name, _, pattern = spec.partition(":")
        precision = Precision(name)
        for group in _matching(found, pattern, f"--keep {spec}"):
            if not group.allows(precision):
                raise SettingsError(
                    f"--keep {spec}: {group.id} cannot run in {precision}: {group.excluded[precision]}; leave it out"
                )
            others = [p for p in Precision if p is not precision]
            found[group.id] = _without(group, others, f"pinned to {precision} by --keep {spec}")
    for pattern in exclude:
        for group in _matching(found, pattern, f"--exclude {pattern}"):
            if not any(group.allows(p) for p in Precision if not p.quantized):
                raise SettingsError(f"--exclude {pattern}: {group.id} is {group.excluded[grouping.top]}: drop one")
            narrow = [p for p in Precision if p.quantized]
            found[group.id] = _without(group, narrow, f"kept out of 8 bit by --exclude {pattern}")
    return replace(grouping, groups=tuple(found.values()))


def require_matches(grouping: Grouping, keep: Sequence[str], exclude: Sequence[str]) -> None:
    """Raise SettingsError for a pattern that matches no group."""
    found = {group.id: group for group in grouping.groups}
    for spec in keep:
        _matching(found, spec.partition(":")[2], f"--keep {spec}")
    for pattern in exclude:
        _matching(found, pattern, f"--exclude {pattern}")


def _matching(groups: dict[str, LayerGroup], pattern: str, option: str) -> list[LayerGroup]:
    named = [g for g in groups.values() if fnmatchcase(g.id, pattern) or fnmatchcase(g.id.lstrip("/"), pattern)]
    if not named:
        close = get_close_matches(pattern.strip("*"), groups, n=3, cutoff=0.3) or list(groups)[:3]
        raise SettingsError(f"{option} matches none of the {len(groups)} groups: close are {', '.join(close)}")
    return named


def _without(group: LayerGroup, precisions: Iterable[Precision], reason: str) -> LayerGroup:
    """`group` without `precisions`, for `reason` even where there was another one."""
    return replace(group, excluded={**group.excluded, **dict.fromkeys(precisions, reason)})
