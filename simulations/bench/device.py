"""How fast replies can reach the device that strategies aggregate on: no pass there can be faster."""

from __future__ import annotations

from time import perf_counter

import torch

# Bytes that are copied at a time, from one buffer into another.
PIECE = 32 * 2**20
# Bytes after which the rate is known well enough.
ENOUGH = 2**30


class Copies:
    """Copies as many bytes as all replies hold from the CPU's memory (pinned, for CUDA) to a device."""

    def __init__(self, name: str, total: int) -> None:
        self.total, self.device = total, torch.device(name)
        size = max(1, min(PIECE, total))
        pinned = self.device.type == "cuda"
        self._from = torch.ones(size, dtype=torch.uint8, device="cpu", pin_memory=pinned)
        self._to = torch.empty(size, dtype=torch.uint8, device=self.device)
        self._pieces = max(1, min(self.total, ENOUGH) // size)

    def seconds(self) -> float:
        """Return the seconds for all replies, from as many pieces as a good measurement takes."""
        self._wait()
        start = perf_counter()
        for _ in range(self._pieces):
            self._to.copy_(self._from, non_blocking=True)
        self._wait()
        return (perf_counter() - start) * self.total / (self._pieces * self._from.numel())

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def describe(name: str) -> str:
    """Return what the device is: a GPU's name, or that it is none."""
    if torch.device(name).type == "cuda":
        return f"{name} ({torch.cuda.get_device_name(name)})"
    return "torch's CPU (no GPU: it shows that the code works, not what a GPU makes of it)"
