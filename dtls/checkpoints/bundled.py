"""The bundled models, and which of them fits a scale; each folder has its card, README.md."""

from dataclasses import dataclass
from pathlib import Path

from dtls.errors import SizeError

FOLDER = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Bundled:
    """A bundled model. scale: the largest that it is for; subject: what it was trained on."""

    name: str
    scale: int
    subject: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name


BUNDLED = {model.name: model for model in (Bundled("photo-x4", 4, "photographs"), Bundled("faces-x8", 8, "faces"))}


def bundled_for(scale: float | None) -> Bundled:
    """The model for a scale, or for results of one size, whose scale is each image's own; SizeError beyond all."""
    for model in BUNDLED.values():
        if scale is None or scale <= model.scale:
            return model
    raise SizeError(
        f"no model that comes with dtls enlarges by {scale:g}, {max(m.scale for m in BUNDLED.values())} is the most; "
        "say --method, or --checkpoint"
    )
