"""How a checkpoint is used: the choices of a user that change results, and those of speed."""

from dataclasses import dataclass

from dtls.choices import TILE, Precision


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint is used.

    sampler: by name, of models that have several; None for the model's own choice. steps: of samplers that have a
    choice of steps. seed: of the noise of models whose results depend on noise. projected: the result is moved to the
    nearest image that A reduces to the LR image; exact for clean LR images, and never worse then; noise and
    JPEG blocks of the LR image would come through. made_by: A, by a protocol or a spec; None for that which the
    checkpoint was trained for. passes: how often results are projected and cut to [0, 1]; None for once where a
    checkpoint upscales, and four times elsewhere. ensemble: the mean with what comes of the mirrored image, in
    twice the time. noise: the deviation, on the scale of [0, 1], of the noise that is to be removed, for networks
    that are given it. tile: results with a longer side, in pixels, are made in tiles. strength: t / T at which a
    model starts that undoes a degradation at an image's own size; 1 for all of it.
    """

    sampler: str | None = None
    steps: int | None = None
    seed: int = 0
    projected: bool = False
    made_by: str | None = None
    passes: int | None = None
    ensemble: bool = False
    noise: float | None = None
    precision: Precision = "auto"
    compiled: bool = False
    tile: int = TILE
    strength: float = 1.0


DEFAULT = Sampling()
