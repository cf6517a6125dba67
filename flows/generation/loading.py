"""Loads the model that generates, in whatever process: names and numbers alone say which, and how it is used."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dtls.choices import Precision
from flows.inputs.methods import checkpoint_folder, found

if TYPE_CHECKING:
    from dtls.inference.generation import Generator


@dataclass(frozen=True)
class GeneratorSpec:
    """Which checkpoint, on which device, and its choice of samplers; None for the model's own."""

    checkpoint: str
    device: str
    precision: Precision
    sampler: str | None
    sampling_steps: int | None

    @classmethod
    def of(
        cls, checkpoint: str, device: str, precision: Precision, sampler: str | None, sampling_steps: int | None
    ) -> Self:
        """The same from any folder."""
        return cls(found(checkpoint), device, precision, sampler, sampling_steps)

    def __call__(self) -> "Generator":
        from dtls.devices import best_device
        from dtls.inference.generation import load_generator

        with checkpoint_folder(self.checkpoint) as folder:
            return load_generator(folder, best_device(self.device), self.precision, self.sampler, self.sampling_steps)
