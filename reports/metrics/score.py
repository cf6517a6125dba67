"""All numbers of several methods against the same references, with what they share computed once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from reports.metrics.lpips import PIXELS
from reports.metrics.metric import Compared, References
from reports.metrics.planes import groups, no_numbers
from reports.metrics.registry import METRICS


def score(sr: Mapping[str, Tensor], given: References) -> dict[str, dict[str, Tensor]]:
    """By method and by name of the metric, float64 (N,) on the images' device.

    Metrics that need what `given` lacks are left out. sr, by method: uint8 (N, 3, H, W) of HR's shape.
    SizeError when sizes do not fit, ValueError for other tensors.
    """
    metrics = [metric for metric in METRICS if metric.needs <= given.has]
    for x in sr.values():
        given.check(x)
    found: dict[str, dict[str, list[Tensor]]] = {
        method: {metric.name: [no_numbers(x[:0])] for metric in metrics} for method, x in sr.items()
    }
    with torch.inference_mode():
        for part in groups(next(iter(sr.values())), PIXELS) if sr else ():
            references = given.part(part)
            for method, x in sr.items():
                images = Compared(x[part], references)
                for metric in metrics:
                    found[method][metric.name].append(metric.compute(images))
    return {
        method: {name: torch.cat(values) for name, values in numbers.items()} for method, numbers in found.items()
    }
