"""Which device computes."""

import torch


def best_device(wish: str) -> str:
    """The device called `wish`; `auto` is the GPU where there is one. ValueError for one that is not there."""
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wish)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {wish}: {str(error).splitlines()[0]}") from error
    return wish
