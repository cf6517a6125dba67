"""All numbers of several methods against one HR image, with what they share computed once."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dtls.degradations.resize import LRProtocol
from reports.metrics.fidelity import (
    WHOLE,
    Measure,
    authors_consistency,
    consistency,
    lpips_to_one,
    lr_psnr,
    psnr,
    ssim,
)


def score(
    sr: Mapping[str, Tensor],
    *,
    hr: Tensor | None = None,
    lr: Tensor | None = None,
    protocol: LRProtocol = "reference",
    model: nn.Module | None = None,
    measure: Measure = WHOLE,
) -> dict[str, dict[str, Tensor]]:
    """By method and by name of the number, float64 (N,) on the images' device.

    With `hr`: psnr, ssim, ssim_gaussian, and lpips where there is a `model` for it. With `lr`: consistency under
    `protocol`, and lr_psnr. With both: authors_consistency. What is not given is left out, and so are its numbers;
    and `realworld` leaves out those of `lr`, as no downscaling is known that SR should agree with.
    sr, by method, and hr: uint8 (N, 3, H, W) of one shape; lr: uint8 (N, 3, h, w). `measure` is of PSNR and SSIM.
    SizeError when sizes do not fit, ValueError for other tensors.
    """
    linear = None if protocol == "realworld" else protocol
    with torch.inference_mode():
        found: dict[str, dict[str, Tensor]] = {method: {} for method in sr}
        for method, x in sr.items():
            numbers = found[method]
            if hr is not None:
                numbers["psnr"] = psnr(x, hr, measure)
                numbers["ssim"] = ssim(x, hr, measure)
                numbers["ssim_gaussian"] = ssim(x, hr, measure, "gaussian")
            if lr is not None and linear is not None:
                numbers["consistency"] = consistency(x, lr, linear)
                numbers["lr_psnr"] = lr_psnr(numbers["consistency"])
            if hr is not None and lr is not None and linear is not None:
                numbers["authors_consistency"] = authors_consistency(x, hr, (lr.shape[-2], lr.shape[-1]))
        if hr is not None and model is not None:
            for numbers, values in zip(found.values(), lpips_to_one(list(sr.values()), hr, model), strict=True):
                numbers["lpips"] = values
    return found
