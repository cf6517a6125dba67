"""Which device computes."""

import torch


class DeviceError(ValueError):
    """A device that is not there."""


def best_device(wish: str) -> str:
    """The device called `wish`; `auto` is the GPU where there is one. DeviceError for one that is not there."""
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wish)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {wish}: {str(error).splitlines()[0]}") from error
    return wish
