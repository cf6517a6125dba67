"""LPIPS with AlexNet, offline: the package `lpips` builds the network, our safetensors file fills it."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dtls.compat import allow_torchvision_import

WEIGHTS = Path(__file__).parents[1] / "weights" / "lpips_alexnet.safetensors"

_TRUNK = {"conv0": "slice1.0", "conv1": "slice2.3", "conv2": "slice3.6", "conv3": "slice4.8", "conv4": "slice5.10"}


def load_lpips(device: torch.device | str = "cpu") -> nn.Module:
    """LPIPS 0.1 (Zhang et al. 2018) with AlexNet on `device`, in evaluation mode and without gradients.

    Its forward takes two RGB float32 tensors (N, 3, H, W) in [−1, 1], H and W at least 32, and returns the
    distances, float32 (N, 1, 1, 1) and at least 0. Nothing is downloaded or unpickled, and the global random state
    stays as it was. `import lpips` takes two to three seconds, so it happens here and not with this module.
    """
    return build("alex", _state(), WEIGHTS, device)


def build(net: str, state: Mapping[str, Tensor], source: Path, device: torch.device | str) -> nn.Module:
    """An `lpips.LPIPS` of trunk `net` filled with `state`: `net.…` for the trunk, `lin0.…` for the heads.

    RuntimeError, which names `source`, when weights are missing.
    """
    allow_torchvision_import()
    import lpips

    with warnings.catch_warnings(), torch.device("meta"):  # meta: no time spent on weights that are replaced
        warnings.simplefilter("ignore")  # lpips calls torchvision in a way that is deprecated
        model: nn.Module = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    heads = {f"lins.{name.removeprefix('lin')}": tensor for name, tensor in state.items() if name.startswith("lin")}
    model.load_state_dict({**state, **heads}, strict=False, assign=True)  # lpips knows its heads by two names each
    if unfilled := [name for name, tensor in model.state_dict().items() if tensor.is_meta]:
        raise RuntimeError(f"{source} lacks weights of this version of lpips: {', '.join(unfilled)}")
    return model.to(device).eval().requires_grad_(False)


def _state() -> dict[str, Tensor]:
    """The weights under the names of `lpips.LPIPS`."""
    state = {}
    for name, tensor in load_file(WEIGHTS).items():
        layer, kind = name.split(".")
        state[f"net.{_TRUNK[layer]}.{kind}" if layer in _TRUNK else f"{layer}.model.1.{kind}"] = tensor
    return state
