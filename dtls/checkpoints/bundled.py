"""The models that come with the package, and which of them fits a scale; each folder holds its card, README.md."""

from dataclasses import dataclass
from pathlib import Path

from dtls.degradations.resize import SizeError

FOLDER = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Shipped:
    """A model that ships. scale: the largest that it is for; subject: what it was trained on."""

    name: str
    scale: int
    subject: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name


SHIPPED = {model.name: model for model in (Shipped("photo-x4", 4, "photographs"), Shipped("faces-x8", 8, "faces"))}


def shipped_for(scale: float | None) -> Shipped:
    """The model for a scale, or for results of one size, whose scale is each image's own; SizeError beyond all."""
    for model in SHIPPED.values():
        if scale is None or scale <= model.scale:
            return model
    raise SizeError(
        f"no model that comes with dtls enlarges by {scale:g}, {max(m.scale for m in SHIPPED.values())} is the most; "
        "say --method, or --checkpoint"
    )
