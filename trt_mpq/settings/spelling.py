"""How settings of more than one part are written, and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def pairs_of(written: Iterable[str]) -> list[tuple[str, str]]:
    """Both sides of the last colon of each; what has none is a second side."""
    return [(first, second) for first, _, second in (spec.rpartition(":") for spec in written)]


def output_and_ratio(text: str) -> tuple[str, float]:
    """Output ("" for all) and decibels of OUTPUT=DB or DB; raises ValueError."""
    output, _, ratio = text.rpartition("=")
    if not re.fullmatch(r"[+-]?\d+(\.\d*)?", ratio):
        raise ValueError("spell it DB or OUTPUT=DB, as in logits=15, with a number of decibels")
    return output, float(ratio)


def device_and_price(text: str) -> tuple[str, float]:
    """Device ("" for the only one) and price of DEVICE=PRICE or PRICE; raises ValueError."""
    device, _, price = text.rpartition("=")
    if not re.fullmatch(r"\d+(\.\d*)?", price.strip()):
        raise ValueError("spell it PRICE or DEVICE=PRICE, as in l4=0.71, with a number")
    return device.strip(), float(price)


def bytes_from_text(text: str) -> int:
    """A size as people write it: 1200000, 1.2MB, 12 MiB; raises ValueError."""
    written = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if written is None or written[2] not in _BYTES:
        raise ValueError(f"spell it as bytes or with one of {', '.join(filter(None, _BYTES))}")
    return round(float(written[1]) * _BYTES[written[2]])
