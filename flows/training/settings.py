"""What `dtls/train` hands over to the training processes, how it starts them, and the files that they share."""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOSSES = "loss.csv"
ANOTHER_S = "already contains a model; resume it with --resume, or choose another folder"
STOPPED = 143
"""Exit code of a training that was stopped and has saved, as shells report SIGTERM."""


@dataclass(frozen=True)
class Settings:
    """What `dtls/train` hands over; paths are local. start: a file of the weights that training starts with;
    started_from: their hash. run: the flow run that this is; only_own: go on from its own states alone."""

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
    start: str | None = None
    started_from: str | None = None
    image_ext: Sequence[str] = ()
    max_failed: float = 0.1
    run: str | None = None
    only_own: bool = False
    claim: tuple[str, str, float] | None = None
    sync: bool = True

    @property
    def may_grow(self) -> bool:
        """Whether more steps change nothing of those before."""
        return self.recipe["schedule"] != "cosine" and "first_stage" not in self.model

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed; a cosine's course depends on its length, and so do stages."""
        recipe = {key: value for key, value in self.recipe.items() if key not in ("steps", "accumulate")}
        if not self.may_grow:
            recipe["steps"] = self.recipe["steps"]
        return {"model": self.model, "recipe": recipe, "batch_size": self.batch_size, "start": self.started_from}


@dataclass(frozen=True)
class Group:
    """The processes that share a training: so many on each of so many machines, of which this is one.

    rendezvous: HOST:PORT of machine 0, where the others find it; None for one machine.
    """

    processes: int = 1
    machines: int = 1
    machine: int = 0
    rendezvous: str | None = None

    @property
    def leads(self) -> bool:
        """Whether this machine saves, and holds the lease."""
        return self.machine == 0

    def command(self) -> list[str]:
        """What a training process is started by."""
        if self.processes == self.machines == 1:
            return [sys.executable]
        places = ["--standalone"]
        if self.rendezvous is not None:
            places = [f"--nnodes={self.machines}", f"--node-rank={self.machine}", "--rdzv-backend=static"]
            places.append(f"--rdzv-endpoint={self.rendezvous}")
        return [sys.executable, "-m", "flows.training.launch", *places, f"--nproc-per-node={self.processes}"]


def state_name(done: int) -> str:
    """The file of the state after `done` steps."""
    return f"training-{done:09d}.safetensors"


def states(names: Iterable[str]) -> list[str]:
    """Those of `names` that are states of a training, the newest first."""
    return sorted((name for name in names if re.fullmatch(r"training-\d{9,}\.safetensors", name)), reverse=True)


def states_in(folder: Path) -> list[str]:
    """The states of a training in a local folder, the newest first."""
    return states(path.name for path in folder.iterdir())
