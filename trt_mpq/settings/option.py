"""How a setting is declared: what all tables of settings share."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict

# Validation is built by the first value, because `--help` needs the fields alone.
CONFIG = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True)


@dataclass(frozen=True)
class Option:
    """How a setting is shown on the command line, beside what its field says anyway.

    Attributes:
        panel: Panel of the help that it stands in.
        unset: The default in words, where its value does not say it.
        as_text: Whether it is given as one text that its validator reads, whatever its type.
        daily: Whether it is among the few that the help of `build` shows unasked.
        switch: Name of a pair of flags, --name for "always" and --no-name for "never".
    """

    panel: str
    unset: str = ""
    as_text: bool = False
    switch: str | None = None
    daily: bool = False
