"""`dtls import-checkpoint`: a checkpoint of the DTLS authors becomes one of ours."""

from typing import ClassVar, Literal

from pydantic import Field

from dtls.errors import CheckpointError
from flows.inputs.sources import file_at
from flows.interface.options import WHAT, Address, Options, Panels
from storage.receipts.lease import hold
from storage.stores.location import Location, StorageError
from storage.stores.scratch import scratch_folder


class ImportOptions(Options):
    """Which checkpoint, and where to."""

    panels: ClassVar[Panels] = {
        WHAT: "source target",
    }

    source: Address = Field(description="file or URL of a checkpoint made by the authors' code (.pt)")
    target: Address = Field(description="folder or URL for config.json and model.safetensors")
    preset: Literal["16-128", "32-512"] | None = Field(
        None, description="sizes of the model; by default those in a name like SR_16_128_s4.pt"
    )


def import_checkpoint(options: ImportOptions) -> str:
    """Turn a checkpoint of the DTLS authors into one of ours."""
    from dtls.authors_checkpoint import import_checkpoint as convert
    from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS

    target = Location.of(options.target)
    place, name = file_at(options.source, "a checkpoint made by the authors' code (.pt)")
    _check_another(target)
    with scratch_folder() as folder, place.as_file(name) as path:
        made = folder / "model"
        try:
            config = convert(path, made, options.preset).config
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(path), options.source)) from error
        with hold(target, "import-checkpoint"):
            _check_another(target)  # it may have come meanwhile
            for file in (CONFIG, WEIGHTS):
                target.upload(file, made / file)
    return f"{config.lr_size}→{config.size} px, stride {config.stride}, dim {config.dim} → {target}"


def _check_another(target: Location) -> None:
    """StorageError where there is a model."""
    from dtls.checkpoints.checkpoint import WEIGHTS

    if target.exists(WEIGHTS):
        raise StorageError(f"{target}: already contains a model; choose another folder")
