"""`dtls downscale`: the LR images of a folder of HR images, made by a protocol.

What a comparison starts from. Its manifest keeps the protocol, so that a report knows it.
"""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from dtls.degradations.base import LRProtocol, is_linear
from flows.engine.flow import flow
from flows.inputs.methods import Reduction
from flows.inputs.selection import SelectionOptions, Target
from flows.interface.options import WHAT, Address, Panels
from flows.transform.sizes import Reduced, Smaller


class DownscaleOptions(SelectionOptions):
    """What to downscale, how, and how far."""

    panels: ClassVar[Panels] = {
        WHAT: "source target",
    }

    source: Address = Field(description="folder, archive or URL of the HR images")
    target: Target = Field(description="folder, archive or URL for the LR images")
    scale: float = Field(gt=1, le=64, description="how many times smaller")
    protocol: LRProtocol = Field(
        "reference",
        description="reference: bilinear as the DTLS authors do it; antialias: Pillow's bicubic; "
        "realworld: blur, bilinear or bicubic, noise and JPEG at random, in any order",
    )
    crop: bool = Field(
        False,
        description="crop images to a multiple of the scale, at the right and the bottom, as papers do; without it, "
        "those of other sizes fail",
    )
    smaller: Smaller = Field(
        "fail", description="what becomes of images with a side shorter than the scale: fail, or skip leaves them out"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of what realworld draws, for each image by its own pixels")

    @model_validator(mode="after")
    def _seed_changes_something(self) -> Self:
        if self.seed and is_linear(self.protocol):
            raise ValueError(f"the protocol {self.protocol} draws nothing, so that a seed changes nothing")
        return self


@flow("downscale {options.source}")
def downscale(options: DownscaleOptions) -> str:
    """Make the LR images of a folder of HR images."""
    from flows.transform.run import transform
    from flows.transform.spec import ImageTransform

    recipe = ImageTransform(
        "downscale", Reduction(options.protocol, options.seed), Reduced(options.scale, options.smaller, options.crop)
    )
    return transform(recipe, options.source, options.target, options)
