"""Ways to damage a file: of its bytes, of the fields of its message, of the words of its text."""

from __future__ import annotations

import random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 15, -(1 << 31), (1 << 31) - 1)
_LARGE = (*_NUMBERS, 1 << 31, 1 << 40, 1 << 62, -(1 << 63), (1 << 63) - 1)
_TEXTS = (
    "",
    "input",
    "A" * 3000,
    "a\0b",
    "\x1b[2J",
    "../x",
    "Relu",
    "Conv",
    "Identity",
    "If",
    "é\u202e",
    "/etc/passwd",
)
_WORDS = (
    b"-1", b"1e400", b"9" * 5000, b"[" * 2000, b"true", b"nan", b"\xff\xfe", b'""', b"'~nosuchuser/x'", b"'a.b:c'",
    b"[]", b"{}", b"0", b"null", b"'\\u0000'", b"1979-05-27",
)  # fmt: skip


def damaged(content: bytes, name: str, draw: random.Random) -> bytes:
    """`content` of the file called `name`, damaged once or a few times."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        if name.endswith(".onnx") and draw.random() < 0.7:
            content = _message(content, draw)
        elif name.endswith((".toml", ".json", ".jsonl")) and draw.random() < 0.7:
            content = _words(content, draw)
        else:
            content = _bytes(content, draw)
    return content


def _bytes(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((1, 1, 2, 8, 100, len(content))))
    middle = draw.choice((b"", bytes([draw.randrange(256)]), draw.randbytes(end - start), content[start:end] * 2))
    return content[:start] + middle + content[end:]


def _words(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    number = draw.randrange(len(lines))
    word = draw.choice(_WORDS)
    head, sign, _ = lines[number].partition(draw.choice((b"=", b":", b",")))
    lines[number] = draw.choice((head + sign + word, head + sign + word + b",", word, b"", lines[number] * 2))
    return b"\n".join(lines)


def _message(content: bytes, draw: random.Random) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:
        return _bytes(content, draw)
    holder = draw.choice(list(_messages(model)))
    fields = holder.DESCRIPTOR.fields
    present = [field for field, _ in holder.ListFields()]
    field = draw.choice(present if present and draw.random() < 0.8 else list(fields))
    _change(holder, field, draw)
    written = model.SerializePartialToString()
    return _spoil_text(written, draw) if draw.random() < 0.1 else written


def _change(holder: Message, field: Any, draw: random.Random) -> None:
    repeated = field.is_repeated
    how = draw.random()
    if how < 0.25:
        holder.ClearField(field.name)
    elif field.type == Field.TYPE_MESSAGE:
        parts = getattr(holder, field.name)
        if repeated and len(parts):
            part = draw.choice(parts)
            if how < 0.6:
                parts.append(part)
            else:
                part.Clear()
    elif repeated:
        values = getattr(holder, field.name)
        if len(values) and how < 0.7:
            values[draw.randrange(len(values))] = _value(field, draw)
        else:
            values.append(_value(field, draw))
    else:
        setattr(holder, field.name, _value(field, draw))


def _value(field: Any, draw: random.Random) -> Any:
    if field.type == Field.TYPE_STRING:
        return draw.choice(_TEXTS)
    if field.type == Field.TYPE_BYTES:
        return draw.choice((b"", b"\xff", b"abc", draw.randbytes(64)))
    if field.type == Field.TYPE_ENUM:
        return draw.choice(field.enum_type.values).number
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return draw.choice((0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-45))
    if field.type == Field.TYPE_UINT64:
        return draw.choice((0, 1, (1 << 64) - 1))
    return draw.choice(_LARGE if field.type == Field.TYPE_INT64 else _NUMBERS)


def _spoil_text(content: bytes, draw: random.Random) -> bytes:
    """Make a letter of a name no UTF-8."""
    letters = [number for number, byte in enumerate(content[:4000]) if chr(byte).isalpha()]
    number = draw.choice(letters)
    return content[:number] + b"\xff" + content[number + 1 :]


def _messages(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.type == Field.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                found += _messages(part)
    return found
