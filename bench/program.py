"""What TensorRT for RTX compiled a network to: its kernels, read from the program text inside an engine file.

The text is undocumented and may change with any version: this is an observation for benchmarks, and no part of the
product reads it. An engine holds programs of three sections, `header`, `descriptors { tensor={...} ... }` and
`main { ... kind={...} ... }`; every entry of `main` is a kernel, with the names of its tensors and of the ONNX nodes it
came from. A kernel that fuses a library's product with others has a program of its own, for any accelerator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

PRODUCTS = frozenset({"corrltn", "deconvolution", "fully_connected"})
"""Kinds of kernels that multiply weights or two activations: convolutions, transposed ones, matrix products."""
ATTENTION = "mha"
"""What the name of a kernel that runs a whole attention holds."""
EIGHT_BIT = frozenset({"int8", "fp8_e4m3"})

_NO_KERNELS = frozenset({"signal", "wait"})
_PROGRAM = re.compile(
    r"header \{\n(?P<header>.*?)\n\}\s*descriptors \{\n(?P<descriptors>.*?)\n\}\s*main \{\n(?P<main>.*?)\n\}",
    re.DOTALL,
)
_ENTRY = re.compile(r"\s(\w+)=\{")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|\[ONNX Layer|$)", re.DOTALL)
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Kernel:
    """One kernel of a compiled program.

    Attributes:
        kind: "function" for what was written for this network, else a library's kind, such as "corrltn".
        name: Its name; of a function, what it does one after the other, such as `MulAddReluMulMinMaxRounCast`.
        nodes: The ONNX nodes it came from.
        reads: Types of the tensors it reads, in its order.
        writes: Types of those it writes.
        tensors: Names of those it reads, then of those it writes.
        inner: Number of its own program, None if it has none.
        parts: The kernels of that.
    """

    kind: str
    name: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tensors: tuple[str, ...] = ()
    inner: int | None = None
    parts: tuple[Kernel, ...] = ()

    @property
    def product(self) -> Kernel | None:
        """The product it runs, itself or as a part; None if it multiplies no matrices."""
        if self.kind in PRODUCTS or ATTENTION in self.name:
            return self
        return next((found for part in self.parts if (found := part.product) is not None), None)

    @property
    def operands(self) -> tuple[str, ...]:
        """Types of the two operands of its product; empty if it has none. An attention may read masks before them."""
        return () if self.product is None else tuple(read for read in self.product.reads if read != "bool")[:2]

    @property
    def in_eight_bit(self) -> bool:
        """Whether it multiplies two operands of 8 bit."""
        return bool(self.operands) and EIGHT_BIT.issuperset(self.operands)


def program(engine: bytes) -> tuple[Kernel, ...]:
    """The kernels of an engine, in the order they run.

    Raises:
        ValueError: There is no program text as it is known from version 1.7.
    """
    main: list[Kernel] = []
    inner: list[tuple[Kernel, ...]] = []
    for found in _PROGRAM.finditer(engine.decode("latin1")):
        kernels = tuple(_kernels(found["main"], dict(_types(found["descriptors"]))))
        if "accelerators={*}" in found["header"]:
            inner.append(kernels)
        else:
            main += kernels
    if not main:
        raise ValueError("the engine holds no program text as TensorRT for RTX 1.7 writes it")
    return tuple(kernel if kernel.inner is None else replace(kernel, parts=inner[kernel.inner]) for kernel in main)


def _types(body: str) -> Iterator[tuple[str, str]]:
    """Name and type of every tensor, and of every view of one."""
    for _, entry in _entries(body):
        name, kind = re.search(r'name="([^"]*)"', entry), re.search(r"\btype=(\w+)", entry)
        if name and kind:
            yield name[1], kind[1]


def _kernels(body: str, types: Mapping[str, str]) -> Iterator[Kernel]:
    for kind, entry in _entries(body):
        found = re.search(r'\bname=(?:"([^"]*)"|(\S+))', entry)
        if found is None or kind in _NO_KERNELS:
            continue
        reads, writes = (_listed(entry, f"{side}(?:_args)?") for side in ("input", "output"))
        layers = re.search(r'layers="([^"]*)"', entry)
        number = re.search(r"\bbinary=(\d+)", entry) if kind.startswith("runtime_") else None
        yield Kernel(
            kind,
            (found[1] or found[2] or "").removeprefix("__myl_"),
            tuple(dict.fromkeys(_NODE.findall(layers[1]))) if layers else (),
            tuple(types.get(name, "?") for name in reads),
            tuple(types.get(name, "?") for name in writes),
            (*reads, *writes),
            int(number[1]) if number else None,
        )


def _listed(entry: str, side: str) -> tuple[str, ...]:
    """Names of the tensors on one side of an entry."""
    found = re.search(rf"\b{side}=\{{([^}}]*)\}}", entry)
    return tuple(_QUOTED.findall(found[1])) if found else ()


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """Kind and content of every `kind={...}` that lies in no other."""
    position = 0
    while (opening := _ENTRY.search(body, position)) is not None:
        position = _end(body, opening.end())
        yield opening[1], body[opening.end() : position]


def _end(text: str, start: int) -> int:
    """Where the brace closes that was opened before `start`, braces within quotes aside."""
    depth = 1
    for mark in re.finditer(r'"[^"]*"|[{}]', text[start:]):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return start + mark.start()
    return len(text)
