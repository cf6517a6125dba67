"""How things are measured: time, memory, the device's peak, FLOPs, PSNR, and on what machine."""

import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ENOUGH = 1.05
"""A batch twice as large is better when its rate is at least this many times the best one so far."""
SHARE = 0.45
"""Of a GPU's memory for one variant: two of them are measured in turn."""
EQUAL_DB = 100.0
"""What `psnr` says of equal images, whose PSNR is infinite."""


def synchronize(device: str) -> None:
    """Wait for what the device still has to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def forget(*, compiled: bool) -> None:
    """Give back the memory of networks that are gone, and forget what was compiled for them."""
    if compiled:
        torch.compiler.reset()  # else torch soon compiles no more: it counts what it compiled for each line of code
    gc.collect()
    torch.cuda.empty_cache()


def seconds(run: Callable[[], object], device: str) -> float:
    """How long one `run` takes, to its end on the device."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def interleaved(runs: Sequence[Callable[[], object]], repeats: int, device: str) -> list[float]:
    """The median seconds of each of `runs`, taken in turn (a, b, a, b …) so that drift hits all alike."""
    times = [[seconds(run, device) for run in runs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def best_batch(call: Callable[[int], object], device: str, most: int) -> int:
    """The power of two up to `most` with the highest rate of `call(batch)`: the first after which it stops rising.

    Memory ends the search, too, on a GPU where the call takes more than its `SHARE`.
    """
    best, best_rate, batch = 1, 0.0, 1
    while batch <= most:
        rate = _rate(call, batch, device)
        if rate < best_rate * ENOUGH:
            break
        best, best_rate, batch = batch, rate, 2 * batch
    return best


def _rate(call: Callable[[int], object], batch: int, device: str) -> float:
    """Images a second; 0 where they do not fit."""
    forget(compiled=False)
    try:
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        call(batch)
        if device.startswith("cuda"):
            total = torch.cuda.get_device_properties(device).total_memory
            if torch.cuda.max_memory_allocated(device) > SHARE * total:
                return 0.0
        return batch / statistics.median(seconds(lambda: call(batch), device) for _ in range(3))
    except torch.OutOfMemoryError:
        return 0.0


class Memory:
    """The peak of what a variant allocates on a GPU, beyond what was there before it; None on a CPU.

    A CPU's allocations are not counted by torch, and the resident size belongs to the process, not to a variant.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = torch.cuda.memory_allocated(device) if device.startswith("cuda") else None

    def peak(self, run: Callable[[], object]) -> int | None:
        """Bytes at the peak of `run`, with what has been allocated since this object was made."""
        if self._before is None:
            run()
            return None
        torch.cuda.reset_peak_memory_stats(self._device)
        run()
        synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - self._before


def matrix_peak(side: int, dtype: torch.dtype, device: str, repeats: int = 10) -> float:
    """FLOP/s of a product of two random square matrices of `side` rows, the best that this device shows."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * side**3 / statistics.median(seconds(lambda: a @ b, device) for _ in range(repeats))


def forward_flops(network: nn.Module, size: int) -> int:
    """FLOPs of one call of `network`, which is on the meta device, with one image."""
    x, t = torch.empty(1, 3, size, size, device="meta"), torch.ones(1, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(x, t)
    return counter.get_total_flops()


def psnr(a: Tensor, b: Tensor) -> float:
    """PSNR in dB of two batches of images in [0, 1], rounded to 8 bits; EQUAL_DB where they are the same."""
    rounded = [(x.detach().float().cpu().clamp(0, 1) * 255).round().double() / 255 for x in (a, b)]
    error = (rounded[0] - rounded[1]).square().mean().item()
    return EQUAL_DB if error == 0 else float(-10 * torch.tensor(error, dtype=torch.float64).log10())


@dataclass(frozen=True)
class Hardware:
    """A machine. cores: those this process may use. threads: torch's. gpu: if it is the device."""

    cpu: str
    cores: int
    threads: int
    gpu: str | None


def hardware(device: str) -> Hardware:
    """The machine that this runs on."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return Hardware(_cpu_model(), cores, torch.get_num_threads(), gpu)


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
