"""`dtls downscale`: the LR pictures of a folder of HR pictures, made by the A of a protocol.

What a comparison starts from. Its manifest keeps the protocol, so that a report knows it.
"""

from prefect import flow
from pydantic import Field

from dtls.degradation import Protocol
from flows.loading import Reduction
from flows.mapping import transform
from flows.options import Address
from flows.recipes import Recipe, Reduced
from flows.selection import SelectionOptions, Target


class DownscaleOptions(SelectionOptions):
    """What to downscale, how, and how far."""

    source: Address = Field(description="folder, archive or URL of the HR pictures")
    target: Target = Field(description="folder, archive or URL for the LR pictures")
    scale: float = Field(gt=1, le=64, description="how many times smaller")
    protocol: Protocol = Field(
        "reference", description="reference: bilinear as the DTLS authors do it; antialias: Pillow's bicubic"
    )


@flow(name="dtls", flow_run_name="downscale {options.source}")
def downscale(options: DownscaleOptions) -> str:
    """Make the LR pictures of a folder of HR pictures."""
    recipe = Recipe("downscale", Reduction(options.protocol), Reduced(options.scale))
    return transform(recipe, options.source, options.target, options)
