"""Edits between texts, by jiwer."""

from __future__ import annotations

from trt_mpq.errors import missing


def require_jiwer() -> None:
    """Raise MissingDependencyError if jiwer is not installed."""
    try:
        import jiwer  # noqa: F401
    except ImportError as error:
        raise missing("jiwer", "the metrics wer and cer", "speech") from error


def edits(truth: str, guess: str, *, words: bool) -> tuple[int, int]:
    """Words (or characters) to replace, remove and insert to make one text of the other, and how many the truth has."""
    import jiwer

    if not truth.strip():
        return len(guess.split() if words else guess), 0
    found = (jiwer.process_words if words else jiwer.process_characters)(truth, guess)
    length = found.hits + found.substitutions + found.deletions
    return found.substitutions + found.deletions + found.insertions, length
