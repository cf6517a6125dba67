"""Options of the flows that degrade images, and restore them: the task, how strong the degradation is, and masks."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from dtls.degradations.base import HOLES, NOISE
from dtls.degradations.recorded import at_strength, reduces
from dtls.degradations.registry import operator_of, parts_of_task, spec_of_task, tasks
from flows.inputs.selection import SelectionOptions
from flows.inputs.sources import absolute
from flows.interface.options import Address

SIZING = "sr"
"""The task that changes the size of images."""


def restorations() -> tuple[str, ...]:
    """How the tasks of restoration are written, with an example of each value."""
    return tuple(task for task in tasks() if not reduces(spec_of_task(task)))


def check_alone(spec: str) -> None:
    """ValueError for holes beside another degradation: where nothing is missing, restoring them changes nothing."""
    parts = spec.split("+")
    if HOLES in parts and len(parts) > 1:
        raise ValueError("inpaint stands alone, as it keeps what is known; undo the rest in a run of its own")


class TaskOptions(SelectionOptions):
    """Which degradation is made, or undone."""

    task: str = Field(
        description=f"{', '.join(restorations())}, or several of them, each once and colourise last, like "
        "deblur:2+denoise:0.1"
    )
    masks: Address | None = None
    strength: float = Field(
        1.0, gt=0, le=1, description="how much of the degradation there is, like 0.5 for half of it; 1 is all"
    )

    @field_validator("task")
    @classmethod
    def _is_known(cls, task: str) -> str:
        for piece in task.split("+"):
            name, _, scale = piece.partition(":")
            if name == SIZING:
                raise ValueError(
                    f"{piece} changes the size of images: use dtls upscale --scale {scale}, and dtls downscale "
                    f"--scale {scale} to make such images"
                )
        operator_of("+".join(part.spec for part in parts_of_task(task, without=SIZING)))
        return task

    @model_validator(mode="after")
    def _masks_are_for_holes(self) -> Self:
        if self.masks is not None and not self.has_holes:
            raise ValueError("--masks goes with --task inpaint")
        if self.strength < 1 and self.has_holes:
            raise ValueError("--strength is not for inpaint: a pixel is missing, or it is not")
        return self

    @property
    def spec(self) -> str:
        """The degradation."""
        return spec_of_task(self.task)

    @property
    def has_holes(self) -> bool:
        """Whether pixels are missing."""
        return HOLES in self.spec.split("+")

    @property
    def noise(self) -> float | None:
        """The deviation of the noise that there is, on the scale of [0, 1], if there is some."""
        found = [part.value for part in parts_of_task(self.task) if part.family.spec == NOISE]
        return self.strength * found[0] if found and found[0] is not None else None

    @property
    def masks_address(self) -> str | None:
        """Where the masks are, the same from any folder: results with other masks are made with other options."""
        return None if self.masks is None else absolute(self.masks)

    @property
    def protocol(self) -> str:
        """The degradation at its strength, as manifests keep it."""
        return at_strength(self.spec, self.strength)
