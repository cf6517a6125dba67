"""`dtls degrade`: images that are blurred, noisy, dark, grey, or have holes, to test restoration with.

Their manifest keeps the degradation, so that restoring and a report know it. `dtls downscale` makes small images.
"""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from dtls.degradations.base import HOLES, NOISE
from flows.engine.flow import flow
from flows.inputs.methods import Deterioration
from flows.inputs.selection import Target
from flows.inputs.tasks import TaskOptions
from flows.interface.options import WHAT, Address, Panels
from flows.transform.sizes import Unchanged

RANDOM = (HOLES, NOISE)
"""The degradations that draw something."""


class DegradeOptions(TaskOptions):
    """What to degrade, and how."""

    panels: ClassVar[Panels] = {
        WHAT: "source target masks",
    }

    source: Address = Field(description="folder, archive or URL of the images")
    target: Target = Field(description="folder, archive or URL for the degraded images")
    masks: Address | None = Field(
        None,
        description="of inpaint: a mask for all images, or a folder, archive or URL with one for each, of its name; "
        "what is white in them is cut out; by default, holes are drawn at random",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of noise and of random holes, for each image by its own pixels")

    @model_validator(mode="after")
    def _seed_changes_something(self) -> Self:
        draws = any(part.partition(":")[0] in RANDOM for part in self.spec.split("+"))
        if self.seed and (not draws or self.masks is not None):
            raise ValueError(f"the task {self.task} draws nothing, so that a seed changes nothing")
        return self


@flow("degrade {options.source}")
def degrade(options: DegradeOptions) -> str:
    """Degrade every image of a folder, an archive, or shards."""
    from flows.transform.run import transform
    from flows.transform.spec import ImageTransform

    load = Deterioration(options.spec, options.strength, options.seed, has_masks=options.masks is not None)
    recipe = ImageTransform("degrade", load, Unchanged(), masks=options.masks_address)
    return transform(recipe, options.source, options.target, options)
