"""The bundled models, and which of them is for a scale or a task; each folder has its card, README.md."""

from dataclasses import dataclass
from pathlib import Path

from dtls.degradations.registry import parts_of_task
from dtls.errors import CheckpointError, SizeError

FOLDER = Path(__file__).parents[1] / "weights"
ENLARGING = "sr"


@dataclass(frozen=True)
class Bundled:
    """A bundled model. scale: the largest that it is for; subject: what it was trained on; task: what it does."""

    name: str
    scale: int
    subject: str
    task: str = ENLARGING

    @property
    def folder(self) -> Path:
        return FOLDER / self.name


BUNDLED = {model.name: model for model in (Bundled("photo-x4", 4, "photographs"), Bundled("faces-x8", 8, "faces"))}
UPSCALING = {name: model for name, model in BUNDLED.items() if model.task == ENLARGING}
"""Those that enlarge images."""


def bundled_for(scale: float | None) -> Bundled:
    """The model for a scale, or for results of one size, whose scale is each image's own; SizeError beyond all."""
    for model in UPSCALING.values():
        if scale is None or scale <= model.scale:
            return model
    most = max(model.scale for model in UPSCALING.values())
    raise SizeError(
        f"no model that comes with dtls enlarges by {scale:g}, {most} is the most; say --method, or --checkpoint"
    )


def bundled_for_task(task: str) -> Bundled:
    """The model that restores what a task undoes; CheckpointError, with what to do instead, where there is none."""
    parts = parts_of_task(task)
    restoring = [(model, parts_of_task(model.task)) for model in BUNDLED.values() if model.task != ENLARGING]
    for model, own in restoring:
        if own == parts:
            return model
    families = [part.family for part in parts]
    near = [model.task for model, own in restoring if [part.family for part in own] == families]
    others = f"there is one for {' and '.join(near)}; else " if near else ""
    methods = "membrane or spandrel:FILE" if task == "inpaint" else "spandrel:FILE"
    raise CheckpointError(
        f"no model for {task} comes with dtls; {others}give --checkpoint MODEL, as dtls train --task {task} makes "
        f"it, or --method {methods}"
    )
