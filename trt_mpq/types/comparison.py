"""How far a model is from another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputComparison:
    """One output of the typed model against FP32, over the compared samples.

    `sqnr_db` is None when both are bit-equal. `passed` is Polygraphy's verdict: whether the signal-to-noise ratio is at
    least `required_db`.
    """

    output: str
    sqnr_db: float | None
    cosine: float
    max_abs_error: float
    required_db: float
    passed: bool

    def __str__(self) -> str:
        ratio = "equal" if self.sqnr_db is None else f"{self.sqnr_db:.1f} dB"
        return f"output {self.output!r}: {ratio}, required {self.required_db:g} dB"


@dataclass(frozen=True)
class Comparison:
    """Polygraphy's comparison of a file of the plan with FP32, or of an engine, and our own figures per output.

    `file` is the name of the file, empty for an engine.
    """

    samples: int
    outputs: tuple[OutputComparison, ...]
    file: str = "typed.onnx"

    @property
    def failed(self) -> tuple[OutputComparison, ...]:
        """The outputs that did not pass."""
        return tuple(output for output in self.outputs if not output.passed)
