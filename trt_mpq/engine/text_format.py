"""Protocol buffer text, as far as a Triton model configuration needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_QUOTED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Word:
    """The name of an enum member, which is written without quotes."""

    text: str


@dataclass(frozen=True)
class Message:
    """Fields in the order written; a name that occurs several times is a repeated message."""

    fields: tuple[tuple[str, Field], ...]


Field = str | int | bool | Word | Message | Sequence[int]


def render(message: Message) -> str:
    """The text of `message`."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> Iterator[str]:
    for name, value in message.fields:
        if isinstance(value, Message):
            yield f"{name} {{"
            yield from (f"  {line}" for line in _lines(value))
            yield "}"
        else:
            yield f"{name}: {_scalar(value)}"


def _scalar(value: str | int | bool | Word | Sequence[int]) -> str:
    if isinstance(value, Word):
        return value.text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, int):
        return str(value)
    return f"[ {', '.join(map(str, value))} ]" if value else "[ ]"


def _escaped(character: str) -> str:
    code = ord(character)
    return _QUOTED.get(character) or (f"\\{code:03o}" if code < 32 or code == 127 else character)
