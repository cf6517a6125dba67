"""LR images that are made of noise and enlarged (document 000), compared with real images.

From the worst to the best: pixels that are all random, the normal distribution of LR images, the flow that begins as
that one, and real LR images. All are enlarged by the same model.
"""

from collections.abc import Mapping

import numpy as np

from dtls.errors import SizeError
from flows.engine.flow import as_part
from flows.experiments.generated import Generated
from flows.experiments.testbed import Degraded
from flows.generation.seeds import key_of, seed_of
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions, upscale
from storage.images.decode import encode_png
from storage.stores.location import Location

UPSCALER, SCALE, MIN_SIDE = "faces-x8", 8, 8
NETWORK: dict[str, str] = {}
"""What departs from the defaults of lr-flow's network."""
NO_STEP = {"steps": 1, "learning_rate": 1e-12}
"""Options of training that leave the flow as it begins."""


class Priors(Generated):
    """The rows of the table, for images of faces."""

    default_size, default_steps = 128, 4000
    note = f"All are enlarged ×{SCALE} by {UPSCALER}. The LR images of the last row are those of the test images."

    def trainings(self) -> dict[str, TrainOptions]:
        train = {"method": "lr-flow", "size": self._low, "network": NETWORK}
        rows = {"normal-distribution": train | NO_STEP, "lr-flow": train}
        return {label: self._training(row, 3) for label, row in rows.items()}

    def check(self) -> None:
        self.testbed.data.check(Location.of(self.options.out))
        if self.testbed.size % SCALE or self._low < MIN_SIDE:
            raise SizeError(
                f"size {self.testbed.size}: {UPSCALER} enlarges LR images of at least {MIN_SIDE} pixels ×{SCALE}; "
                f"take a multiple of {SCALE} from {MIN_SIDE * SCALE} on"
            )
        for training in self.trainings().values():
            training.model()

    def sets(self, trainings: Mapping[str, TrainOptions], count: int) -> dict[str, str]:
        large = {"upscale": UPSCALER, "size": self.testbed.size}
        given = Degraded(self._low, "antialias")
        self.testbed.make_degraded(given)
        return {
            "random-pixels": self._enlarged(self._random(count), "random-pixels"),
            **{label: self._generated(label, training, count, **large) for label, training in trainings.items()},
            "real-LR": self._enlarged(self.testbed.degraded(given), "real-LR"),
        }

    @property
    def _low(self) -> int:
        """Side of the LR images in pixels."""
        return self.testbed.size // SCALE

    def _random(self, count: int) -> str:
        """Where LR images of random pixels are, each of a seed of its own."""
        address = self.testbed.at("random-lr")
        folder = Location.of(address)
        for key in map(key_of, range(count)):
            source = np.random.default_rng(seed_of(0, key))
            pixels = source.integers(0, 256, (self._low, self._low, 3), dtype=np.uint8)
            folder.write(f"{key}.png", encode_png(pixels))
        return address

    def _enlarged(self, source: str, label: str) -> str:
        target = self.testbed.at(f"generated/{self.options.table}/{label}")
        common = {"device": self.options.device, "overwrite": True, **self.testbed.common}
        as_part(
            upscale,
            UpscaleOptions(source=source, target=target, checkpoint=UPSCALER, size=self.testbed.size, **common),
        )
        return target
