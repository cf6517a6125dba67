"""What `dtls/reproduce` makes beside tables of methods: by name, the class that makes it, imported when it runs."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from flows.experiments.experiment import Document
    from flows.experiments.testbed import Testbed


TRAINING = ("steps", "batch_size")
"""Options of what trains models without presets."""


class Reproducible(Protocol):
    """A table or figure that can be made again: its data, what is refused before any work, and what it comes to."""

    testbed: "Testbed"

    def check(self) -> None: ...

    def document(self) -> "Document": ...


class Study(NamedTuple):
    """Where the class is that makes it of `ReproduceOptions`, and which options it has beside those of all."""

    path: str
    options: tuple[str, ...] = ()

    def load(self) -> Callable[[Any], Reproducible]:
        """The class."""
        module, _, name = self.path.partition(":")
        found: Callable[[Any], Reproducible] = getattr(import_module(module), name)
        return found


STUDIES: dict[str, Study] = {
    "kl": Study("flows.experiments.noise:Noising"),
    "4.1": Study("flows.experiments.noise:Schedules"),
    "4.2": Study("flows.experiments.latents:Latents", TRAINING),
    "4.3": Study("flows.experiments.latents:Latents", TRAINING),
    "5.4": Study("flows.experiments.generated:Generated", (*TRAINING, "features")),
    "5.5": Study("flows.experiments.generated:Generated", (*TRAINING, "features")),
    "prior": Study("flows.experiments.priors:Priors", (*TRAINING, "features")),
}
