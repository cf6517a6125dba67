"""What `dtls/train` hands over to the training process, and the names of the files that they share."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOSSES = "loss.csv"
STOPPED = 143
"""Exit code of a training that was stopped and has saved, as shells tell SIGTERM."""


@dataclass(frozen=True)
class Settings:
    """What `dtls/train` hands over; paths are local."""

    shards: list[tuple[str, int | None]]
    folder: str
    model: dict[str, Any]
    recipe: dict[str, Any]
    batch_size: int
    workers: int
    save_every: int
    keep: int
    device: str
    precision: str
    compile: bool
    resume: bool

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed; a cosine's course depends on its length, too."""
        recipe = {key: value for key, value in self.recipe.items() if key not in ("steps", "accumulate")}
        if recipe["schedule"] == "cosine":
            recipe["steps"] = self.recipe["steps"]
        return {"model": self.model, "recipe": recipe, "batch_size": self.batch_size}


def state_name(done: int) -> str:
    """The file of the state after `done` steps."""
    return f"training-{done:09d}.safetensors"


def states(names: Iterable[str]) -> list[str]:
    """Those of `names` that are states of a training, the newest first."""
    return sorted((name for name in names if re.fullmatch(r"training-\d{9,}\.safetensors", name)), reverse=True)


def states_in(folder: Path) -> list[str]:
    """The states of a training in a local folder, the newest first."""
    return states(path.name for path in folder.iterdir())
