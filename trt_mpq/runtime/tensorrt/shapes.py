"""The optimization profile of dynamic inputs.

Polygraphy's `Profile` takes names as wildcard patterns, so an input called `x[0]` would silently get another shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trt_mpq.runtime.tensorrt.refusal import BuildError
from trt_mpq.types.engine import ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt


def add_profile(builder: trt.Builder, config: trt.IBuilderConfig, shapes: Mapping[str, ShapeRange]) -> None:
    """Give `config` one profile with `shapes`, none for a network of fixed shapes.

    Raises:
        BuildError: TensorRT refused it.
    """
    if not shapes:
        return
    profile = builder.create_optimization_profile()
    for name, given in shapes.items():
        profile.set_shape(name, given.minimum, given.optimum, given.maximum)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refused the optimization profile {', '.join(map(_text, shapes.items()))}")


def _text(item: tuple[str, ShapeRange]) -> str:
    name, given = item
    shapes = (given.minimum, given.optimum, given.maximum)
    return f"{name}={':'.join('x'.join(map(str, shape)) for shape in shapes)}"
