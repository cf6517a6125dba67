"""ESRGAN's network (1809.00219), spandrel's architecture; by L1, or with a GAN stage by --adversarial.

Files of weights made of it load wherever ESRGAN's do.
"""

from dataclasses import dataclass
from typing import Any, Self

from dtls.compat import allow_torchvision_import
from dtls.errors import SizeError
from dtls.models.base import departing
from dtls.models.regression import BlocksConfig, Regression


@dataclass(frozen=True)
class RRDBConfig(BlocksConfig):
    """blocks: residual-in-residual dense ones; 23 in ESRGAN."""

    blocks: int = 23

    def validate(self) -> Self:
        super().validate()
        if self.scale not in (2, 4, 8):
            raise SizeError(f"rrdb enlarges by 2, 4 or 8, not by {self.scale}")
        return self


class RRDB(Regression):
    """Dense blocks on the LR image, then nearest-neighbour doubling with a convolution after each (Fig. 4)."""

    name = "rrdb"
    config_type = RRDBConfig
    defaults = departing(learning_rate=2e-4, schedule="cosine", warmup=200, clip=1.0, batch_size=16)

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        allow_torchvision_import()
        from spandrel.architectures.ESRGAN import ESRGAN  # takes seconds

        self.scale = self.config.scale
        self.network = ESRGAN(num_filters=self.config.features, num_blocks=self.config.blocks, scale=self.scale)
