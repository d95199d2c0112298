"""A way from a run folder to an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """What a TensorRT makes of a file of the run folder, on the device.

    Attributes:
        runtime: The TensorRT, with what brings it, as in TensorRT 10.3 (JetPack 6.1, 6.2).
        network: The file that it reads.
        command: The line for a shell in the run folder; empty where there is none.
        refusal: Why it cannot be; empty if it can.
        note: What else is to be known; empty if nothing.
    """

    runtime: str
    network: str
    command: str = ""
    refusal: str = ""
    note: str = ""
