"""How a build that TensorRT refused travels from where it is noticed to its outcome."""

from __future__ import annotations


class BuildError(Exception):
    """TensorRT built no engine from this network; the message is one sentence. Never leaves `builder.build`."""
