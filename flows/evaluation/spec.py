"""What measures the units of a comparison, so written down that any process can do it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from dtls.devices import best_device
from flows.engine.job import Work
from flows.evaluation.collection import Collection
from flows.evaluation.measure import Measurement
from flows.evaluation.rates import coded
from flows.inputs.sources import SourceSpec
from reports.metrics.lpips import load_lpips, load_lpips_vgg
from reports.metrics.planes import Measure


@dataclass(frozen=True)
class EvaluationSpec:
    """The addresses of the images, and how they are compared; see `Measurement`.

    rates: with codecs as results, too.
    """

    hr: SourceSpec | None
    lr: SourceSpec | None
    sr: tuple[tuple[str, SourceSpec], ...]
    protocol: str
    measure: Measure
    network: str | None
    device: str
    batch_size: int
    workers: int
    rates: bool = False

    def __call__(self, _: int) -> Work:
        """What measures a unit in this process; the unit has what is in the folders."""
        hr, lr = (Collection(one.open(), {}) if one is not None else None for one in (self.hr, self.lr))
        return self.comparison(hr, lr, {name: Collection(one.open(), {}) for name, one in self.sr}).work

    def comparison(
        self, hr: Collection | None, lr: Collection | None, sr: Mapping[str, Collection], *, is_here: bool = True
    ) -> Measurement:
        """The comparison of these; where units are measured elsewhere, LPIPS's network need not be here."""
        if self.rates and hr is not None and lr is not None:
            sr = {**sr, **coded(hr, lr)}
        device = best_device("auto" if self.device.startswith("cuda") and not is_here else self.device)
        return Measurement(
            hr=hr,
            lr=lr,
            sr=sr,
            protocol=self.protocol,
            measure=self.measure,
            network=self.network,
            lpips=_lpips(self.network, device) if is_here else None,
            device=device,
            batch_size=self.batch_size,
            workers=self.workers,
            rates=self.rates,
        )


def _lpips(network: str | None, device: str) -> nn.Module | None:
    if network is None:
        return None
    return load_lpips_vgg(None, device) if network == "vgg" else load_lpips(device)
