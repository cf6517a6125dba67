"""Which device computes, with what precision, and how a network is made fast on it."""

import re
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from dtls.choices import Precision
from dtls.errors import DeviceError


def best_device(requested: str) -> str:
    """The device called `requested`; `auto` is the GPU where there is one. DeviceError for one that is not there."""
    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", requested):
        raise DeviceError(f"device {requested}: unknown; say auto, cpu, cuda, cuda:1, … or mps")
    try:
        torch.empty(0, device=requested)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {requested}: {str(error).splitlines()[0]}") from error
    return requested


def best_precision(requested: Precision, device: str) -> Literal["fp32", "bf16"]:
    """The precision called `requested`; `auto` is bf16 on GPUs that multiply in it, else fp32."""
    if requested != "auto":
        return requested
    return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def accelerated(
    network: nn.Module, device: str, precision: Literal["fp32", "bf16"], *, compiled: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """`network(x, t)` for inference on `device`: channels_last, under autocast for bf16, compiled where asked for.

    A compiled network is made anew for every size of x, and after eight of them torch compiles no more; on a GPU it
    runs as one CUDA graph.
    """
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    kind = torch.device(device).type
    graphed = compiled and kind == "cuda"
    call = (
        torch.compile(network, dynamic=False, mode="reduce-overhead" if graphed else "default")
        if compiled
        else network
    )

    def run(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
            out: Tensor = call(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, t)
        out = out.float()  # what is done with it wants more than bfloat16's 8 bits
        return out.clone() if graphed else out  # the graph's next run writes over its output

    return run
