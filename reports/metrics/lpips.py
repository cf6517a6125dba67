"""LPIPS: a learned perceptual distance (Zhang et al. 2018), computed from features, offline.

LPIPS sums, over five layers, the mean over places of Σ_c w_c (a_c − b_c)², a and b being of unit length over the
channels c. So with φ = a·√(w/places), all layers together, it is |φ(x) − φ(y)|², and the features of one HR image
serve for the results of all methods. The package `lpips` builds the networks. AlexNet's weights are bundled; VGG16's
trunk is torchvision's file.
"""

import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dtls.compat import allow_torchvision_import
from dtls.errors import WeightsError
from reports.metrics.metric import Kept, SampleMetric
from reports.metrics.planes import check_images, groups, no_numbers

MIN_SIDE = 32
"""AlexNet's strides leave no pixel of a smaller image; VGG's would, but one limit holds for both."""
PIXELS = 32 * 128 * 128
"""Images' pixels (N·H·W) that a CPU works on at a time: convolutions of larger batches are faster."""
EPSILON = 1e-10
"""What the package `lpips` adds to a length before it divides by it."""
WEIGHTS = Path(__file__).parents[1] / "weights" / "lpips_alexnet.safetensors"
VGG_FILE = "vgg16-397923af.pth"
"""torchvision's name for it, on https://download.pytorch.org/models/."""

_TRUNK = {"conv0": "slice1.0", "conv1": "slice2.3", "conv2": "slice3.6", "conv3": "slice4.8", "conv4": "slice5.10"}


def lpips(a: Tensor, b: Tensor, model: nn.Module, kept: Kept | None = None) -> Tensor:
    """The distance, at least 0, by `model` from `load_lpips` or `load_lpips_vgg`.

    a, b: uint8 (N, 3, H, W) of one shape on the model's device; returns float64 (N,), NaN when a side is under 32
    pixels. Computed in float32, without TF32. kept: keeps the features of b for the next call with the same b.
    """
    check_images(a, b)
    if min(b.shape[-2:]) < MIN_SIDE or not len(b):
        return no_numbers(b)
    kept, values = kept or Kept(), []
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        for part in groups(b, PIXELS):
            of_b = kept.once(f"lpips {part.start}", partial(features, b[part], model))
            values.append(distance(features(a[part], model), of_b))
    return torch.cat(values)


def features(x: Tensor, model: Any) -> list[Tensor]:
    """φ of images by the trunk and heads of `model`, an `lpips.LPIPS`: one tensor a layer, float32 (N, C, h, w).

    x: (N, 3, H, W) in 0 … 255 on the model's device, uint8 or float, H and W at least 32.
    """
    scaling = model.scaling_layer
    std = scaling.scale * 127.5
    mean = scaling.shift * 127.5 + 127.5
    x = (x.to(std.dtype, memory_format=torch.channels_last) - mean) / std
    return [_unit(layer, head.model[-1].weight) for layer, head in zip(model.net(x), model.lins, strict=True)]


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """LPIPS of images whose features are a and b: float64 (N,), 0 for equal ones."""
    return torch.stack([(x - y).square().sum(dim=(1, 2, 3)) for x, y in zip(a, b, strict=True)]).double().sum(dim=0)


def load_lpips(device: torch.device | str = "cpu") -> nn.Module:
    """LPIPS 0.1 (Zhang et al. 2018) with AlexNet on `device`, in evaluation mode and without gradients.

    Its forward takes two RGB float32 tensors (N, 3, H, W) in [−1, 1], H and W at least 32, and returns the
    distances, float32 (N, 1, 1, 1) and at least 0. Nothing is downloaded or unpickled, and the global random state
    stays as it was. `import lpips` takes two to three seconds, so it happens here and not with this module.
    """
    return _build("alex", _alexnet(), WEIGHTS, device)


def load_lpips_vgg(trunk: Path | None = None, device: torch.device | str = "cpu") -> nn.Module:
    """LPIPS 0.1 (Zhang et al. 2018) with VGG16 on `device`, to be used as that of `load_lpips`.

    trunk: torchvision's VGG16 as `.pth` or `.safetensors`; by default the one in torch hub's cache. Read as weights
    alone; nothing is downloaded. WeightsError when it is not there or holds something else.
    """
    path = trunk or Path(torch.hub.get_dir()) / "checkpoints" / VGG_FILE
    if not path.is_file():
        raise WeightsError(f"LPIPS with VGG needs torchvision's VGG16, {VGG_FILE}, and there is no {path}")
    state = _read(path)
    slices = {f"net.{_slice(name)}": tensor for name, tensor in state.items() if name.startswith("features.")}
    try:
        return _build("vgg", {**slices, **_read(_vgg_heads())}, path, device)
    except RuntimeError as error:
        raise WeightsError(f"{path} is not torchvision's VGG16: {str(error).splitlines()[-1].strip()}") from error


def _build(net: str, state: Mapping[str, Tensor], source: Path, device: torch.device | str) -> nn.Module:
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


def _alexnet() -> dict[str, Tensor]:
    """The weights under the names of `lpips.LPIPS`."""
    state = {}
    for name, tensor in load_file(WEIGHTS).items():
        layer, kind = name.split(".")
        state[f"net.{_TRUNK[layer]}.{kind}" if layer in _TRUNK else f"{layer}.model.1.{kind}"] = tensor
    return state


def _slice(name: str) -> str:
    """Where `lpips` has the layer features.N of torchvision: its slices begin with the layers 0, 4, 9, 16, 23."""
    layer = int(name.split(".")[1])
    number = sum(layer >= first for first in (0, 4, 9, 16, 23))
    return name.replace("features", f"slice{number}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    return state


def _vgg_heads() -> Path:
    """The heads that the package `lpips` brings."""
    found = [file for file in files("lpips") or () if file.as_posix().endswith("weights/v0.1/vgg.pth")]
    return Path(str(found[0].locate()))


def _unit(layer: Tensor, weight: Tensor) -> Tensor:
    """A layer's activations (N, C, h, w) at unit length over the channels, times √(weight / places); in place."""
    length = torch.linalg.vector_norm(layer, dim=1, keepdim=True)
    return layer.div_(length.add_(EPSILON)).mul_((weight / layer[0, 0].numel()).sqrt())


LPIPS = SampleMetric(
    name="lpips",
    label="LPIPS",
    decimals=4,
    lower_is_better=True,
    description="learned perceptual distance, version 0.1",
    is_primary=True,
    needs=frozenset({"hr", "lpips"}),
    compute=lambda images: lpips(images.sr, images.hr, images.lpips, images.given.kept),
)
