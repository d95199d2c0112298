"""Synthetic groups and loose ops for tests of the stages that never see a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trt_mpq.types import Grouping, LayerGroup, LooseOp, Precision, QuantizedInput, Tie, Weight


def make_group(
    name: str,
    reads: Sequence[str] = ("x",),
    *,
    index: int = 0,
    weights: int = 10,
    flops: int = 1000,
    input_elements: int = 100,
    output_elements: int = 100,
    excluded: Mapping[Precision, str] | None = None,
) -> LayerGroup:
    """A convolution called `name` that writes the tensor ``<name>.out``; a second read is a residual."""
    roles = ("input", *("residual" for _ in reads[1:]))
    inputs = tuple(
        QuantizedInput(tensor, name, i, role) for i, (tensor, role) in enumerate(zip(reads, roles, strict=True))
    )
    return LayerGroup(
        id=name,
        index=index,
        op_type="Conv",
        nodes=(name,),
        weights=(Weight(f"{name}.weight", (weights,), 0, name, None, f"{name}.out", 1, 2),),
        inputs=inputs,
        writes={f"{name}.out": output_elements},
        flops=flops,
        input_elements=input_elements,
        excluded=excluded or {},
    )


def make_loose(name: str, reads: Sequence[str], *, op_type: str = "Add", elements: int = 100) -> LooseOp:
    """An op called `name` with operands and result of `elements` each, writing ``<name>.out``."""
    return LooseOp(name, op_type, tuple(reads), {f"{name}.out": elements}, elements * len(reads))


def make_chain(count: int) -> tuple[LayerGroup, ...]:
    """Groups ``g0``, ``g1``, ... where each reads what the one before wrote, the first reads ``x``."""
    return tuple(make_group(f"g{i}", ["x" if i == 0 else f"g{i - 1}.out"], index=i) for i in range(count))


def make_grouping(
    groups: Sequence[LayerGroup], loose: Sequence[LooseOp] = (), ties: Sequence[Tie | tuple[str, ...]] = ()
) -> Grouping:
    """A grouping of these parts."""
    ties = [tie if isinstance(tie, Tie) else Tie("move", tie) for tie in ties]
    return Grouping(tuple(groups), tuple(loose), tuple(ties))


def group_called(name: str, grouping: Grouping) -> LayerGroup:
    """The group of this name."""
    return next(group for group in grouping.groups if group.id == name)
