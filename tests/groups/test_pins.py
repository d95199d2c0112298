from __future__ import annotations

import pytest

from tests.fixtures_groups import make_group, make_grouping
from trt_mpq.errors import SettingsError
from trt_mpq.groups.pins import pinned
from trt_mpq.types import Precision, PrecisionPlan

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
NAMES = ("/layer1/conv1/Conv", "/layer1/conv2/Conv", "/layer2/conv1/Conv", "head")
NETWORK = make_grouping([make_group(name, index=i) for i, name in enumerate(NAMES)])


def options(keep: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> dict[str, list[Precision]]:
    groups = pinned(NETWORK, keep, exclude).groups
    return {group.id: [p for p in Precision if group.allows(p)] for group in groups}


def test_nothing_asked_nothing_changed():
    assert pinned(NETWORK, (), ()) == NETWORK


def test_keep_leaves_one_precision_where_the_glob_matches_with_or_without_the_leading_slash():
    expected = {name: [FP16] if "layer1" in name else list(Precision) for name in NAMES}
    assert options(("fp16:layer1*",)) == options(("fp16:/layer1*",)) == expected


def test_exclude_keeps_out_of_8_bit():
    assert options(exclude=("head",))["head"] == [FP32, FP16, BF16]
    assert options(exclude=("*/conv1/*",))[NAMES[2]] == [FP32, FP16, BF16]


def test_the_reason_names_the_option():
    groups = pinned(NETWORK, ("int8:head",), ("layer2*",)).groups
    assert groups[3].excluded[FP16] == "pinned to int8 by --keep int8:head"
    assert groups[2].excluded[FP8] == "kept out of 8 bit by --exclude layer2*"


@pytest.mark.parametrize("uniform", [FP16, INT8])
def test_a_group_pinned_to_8_bit_stays_there_in_every_uniform_plan(uniform: Precision):
    groups = pinned(NETWORK, ("int8:head",), ()).groups
    assert PrecisionPlan.uniform(groups, uniform, FP16)["head"] is INT8


def test_a_pattern_without_a_match_names_close_ids():
    with pytest.raises(SettingsError, match=r"--keep fp16:layr2/\* matches none of the 4 groups: close are .*layer2"):
        options(("fp16:layr2/*",))
    with pytest.raises(SettingsError, match="--exclude heads matches none of the 4 groups: close are head"):
        options(exclude=("heads",))


def test_a_precision_that_the_group_cannot_have_gives_the_reason():
    network = make_grouping([make_group("g", excluded={INT8: "odd channels"})])
    with pytest.raises(SettingsError, match="--keep int8:g: g cannot run in int8: odd channels"):
        pinned(network, ("int8:g",), ())


@pytest.mark.parametrize(("keep", "exclude"), [(("fp16:head", "int8:h*"), ()), (("int8:head",), ("head",))])
def test_contradictions_name_both(keep: tuple[str, ...], exclude: tuple[str, ...]):
    with pytest.raises(SettingsError, match=r"head .*pinned to (fp16|int8) by --keep"):
        pinned(NETWORK, keep, exclude)
