"""The bundled models, and which of them is for a scale or a task; each folder has its card, README.md."""

from dataclasses import dataclass
from pathlib import Path

from dtls.degradations.registry import as_part_of, parts_of_task, spec_of_task
from dtls.errors import CheckpointError, SizeError

FOLDER = Path(__file__).parents[1] / "weights"
ENLARGING, GENERATING = "sr", "generate"
"""What models do that undo no degradation at the size that images have."""


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


BUNDLED = {
    model.name: model
    for model in (
        Bundled("photo-x4", 4, "photographs"),
        Bundled("faces-x8", 8, "faces"),
        Bundled("photo-denoise", 1, "photographs", "denoise:25/255"),
    )
}
UPSCALING = {name: model for name, model in BUNDLED.items() if model.task == ENLARGING}
"""Those that enlarge images."""
RESTORING = {name: model for name, model in BUNDLED.items() if model.task not in (ENLARGING, GENERATING)}
"""Those that undo another degradation, at the size that images have."""
PRIORS = {name: model for name, model in BUNDLED.items() if model.task == GENERATING}
"""Those that make images of noise, for dtls generate; their scale is 1."""


def bundled_for(scale: float | None) -> Bundled:
    """The model for a scale, or for results of one size, whose scale is each image's own; SizeError beyond all."""
    for model in UPSCALING.values():
        if scale is None or scale <= model.scale:
            return model
    most = max(model.scale for model in UPSCALING.values())
    raise SizeError(
        f"no model that comes with dtls enlarges by {scale:g}, {most} is the most; say --method, or --checkpoint"
    )


def restoring(task: str) -> Bundled | None:
    """The model that restores what a task undoes, if there is one."""
    spec = spec_of_task(task)
    return next((model for model in RESTORING.values() if spec_of_task(model.task) == spec), None)


def bundled_for_task(task: str) -> Bundled:
    """The model that restores what a task undoes; CheckpointError, with what to do instead, where there is none."""
    if (found := restoring(task)) is not None:
        return found
    near = [said for model in RESTORING.values() if (said := _near(model, task)) is not None]
    others = f"there is one for {' and '.join(near)}; else " if near else ""
    raise CheckpointError(
        f"no model for {task} comes with dtls; {others}give --checkpoint MODEL, as dtls train --task {task} makes "
        "it, or --method spandrel:FILE"
    )


def _near(model: Bundled, task: str) -> str | None:
    """The task of a model of the same families, and how it takes images of `task`, if it does; None for another."""
    if [part.family for part in parts_of_task(model.task)] != [part.family for part in parts_of_task(task)]:
        return None
    strength = as_part_of(spec_of_task(task), spec_of_task(model.task))
    weaker = "" if strength is None else f" (for these images: --task {model.task} --strength {strength:g})"
    return model.task + weaker
