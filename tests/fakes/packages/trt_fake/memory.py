"""Device memory: host memory with real addresses that only accepts accesses inside an allocation."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_UNWRITTEN = 0xFF
"""Fresh and freed memory reads as NaN in every float type, so that a missing copy shows."""


class IllegalAddressError(Exception):
    """An access outside every allocation."""


class DeviceMemory:
    """Allocations by address.

    Args:
        capacity: Bytes the device has.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._buffers: dict[int, Bytes] = {}

    @property
    def used(self) -> int:
        """Bytes allocated."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def allocate(self, size: int) -> int:
        """Address of `size` new bytes; MemoryError if the device is full."""
        if self.used + size > self.capacity:
            raise MemoryError(f"{size} bytes do not fit beside the {self.used} of {self.capacity} in use")
        buffer = np.full(size, _UNWRITTEN, np.uint8)
        address = int(buffer.ctypes.data)
        self._buffers[address] = buffer
        return address

    def free(self, address: int) -> None:
        """Give an allocation back; IllegalAddressError if there is none at `address`."""
        if address not in self._buffers:
            raise IllegalAddressError(f"nothing is allocated at {address:#x}")
        self._buffers.pop(address).fill(_UNWRITTEN)

    def view(self, address: int, size: int) -> Bytes:
        """The `size` bytes at `address`, which must lie in one allocation."""
        bases = sorted(self._buffers)
        position = bisect_right(bases, address) - 1
        if position >= 0:
            base = bases[position]
            if address + size <= base + self._buffers[base].nbytes:
                return self._buffers[base][address - base : address - base + size]
        raise IllegalAddressError(f"{size} bytes at {address:#x} are not in an allocation of the fake device")
