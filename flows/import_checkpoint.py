"""`dtls import-checkpoint`: a checkpoint of the DTLS authors becomes one of ours."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from dtls.authors import import_checkpoint as convert
from dtls.checkpoint import WEIGHTS, CheckpointError
from flows.options import Address, Options


class ImportOptions(Options):
    """Which checkpoint, and where to."""

    source: Address = Field(description="checkpoint made by the authors' code (.pt)")
    target: Address = Field(description="folder for config.json and model.safetensors")
    preset: Literal["16-128", "32-512"] | None = Field(
        None, description="sizes of the model; by default those in a name like SR_16_128_s4.pt"
    )


def import_checkpoint(options: ImportOptions) -> str:
    """Turn a checkpoint of the DTLS authors into one of ours."""
    source, target = Path(options.source), Path(options.target)
    if (target / WEIGHTS).exists():
        raise CheckpointError(f"{target}: holds a model already; choose another folder")
    config = convert(source, target, options.preset).config
    return f"{config.lr_size}→{config.size} px, stride {config.stride}, dim {config.dim} → {target}"
