"""The classifier of a checkpoint, as a report asks it: what is the probability of each class?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from dtls.errors import CheckpointError
from flows.inputs.methods import checkpoint_folder

if TYPE_CHECKING:
    from dtls.models.classifier import Classifier as Model


@dataclass(frozen=True)
class Classifier:
    """A trained classifier on `device`. sha256: of its checkpoint."""

    model: "Model"
    sha256: str
    device: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes."""
        return self.model.classes

    def __call__(self, x: Tensor) -> Tensor:
        """The probabilities of the classes, float32 (N, C), of images uint8 (N, 3, H, W) of any size."""
        with torch.inference_mode():
            return self.model.probabilities(x.to(self.device).float() / 255)


def load_classifier(address: str, device: str) -> Classifier:
    """The classifier at `address`; CheckpointError for a checkpoint of another kind."""
    from dtls.checkpoints.checkpoint import load_hashed

    with checkpoint_folder(address) as folder:
        model, sha256 = load_hashed(folder, device)
    if not model.classifies:
        raise CheckpointError(
            f"{address}: is a {model.name} model, not a classifier; dtls train --method classifier makes one, of "
            "images in folders of their classes"
        )
    return Classifier(cast("Model", model), sha256, device)
