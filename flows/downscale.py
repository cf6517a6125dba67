"""`dtls downscale`: the LR pictures of a folder of HR pictures, made by the A of a protocol.

What a comparison starts from. Its manifest keeps the protocol, so that a report knows it.
"""

from prefect import flow
from pydantic import Field

from dtls.degradation import Protocol, downscale_size
from dtls.methods import Downscaling
from flows.options import Address, BatchOptions
from flows.pictures import transform


class DownscaleOptions(BatchOptions):
    """What to downscale, how, and how far."""

    source: Address = Field(description="folder or URL of the HR pictures")
    target: Address = Field(description="folder or URL for the LR pictures")
    scale: float = Field(gt=1, le=64, description="how many times smaller")
    protocol: Protocol = Field(
        "reference", description="reference: bilinear as the DTLS authors do it; antialias: Pillow's bicubic"
    )


@flow(name="dtls", flow_run_name="downscale {options.source}")
def downscale(options: DownscaleOptions) -> str:
    """Make the LR pictures of a folder of HR pictures."""
    summary = transform(
        title="downscale",
        source=options.source,
        target=options.target,
        method=Downscaling(options.protocol),
        size_of=lambda size: downscale_size(size, options.scale),
        size_options={"scale": options.scale},
        batch_size=16,
        unit_size=256,
        options=options,
    )
    return str(summary)
