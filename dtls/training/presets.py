"""Models and recipes by name: `16-128` and `32-512` are the paper's (DTLS §3), `16-128-plus` is what won over it.

Models of other methods have a recipe of their own.
"""

from dataclasses import dataclass
from typing import Any

from dtls.models.dtls import ModelConfig
from dtls.registry import model_class
from dtls.training.recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """A model, how to train it, and with how many images a step."""

    model: Any
    recipe: Recipe
    batch_size: int


PRESETS = {
    "16-128": Preset(ModelConfig(), Recipe(steps=50_000), batch_size=32),
    "32-512": Preset(
        ModelConfig(dim=32, multipliers=(1, 2, 4, 4, 8, 8, 16), size=512, stride=16, steps=30),
        Recipe(steps=374_000),
        batch_size=4,
    ),
    "16-128-plus": Preset(
        ModelConfig(residual=True),
        Recipe(learning_rate=1e-3, schedule="cosine", warmup=500, clip=1.0, loss="mse", inputs="sampled"),
        batch_size=32,
    ),
}


def preset_of(method: str, name: str | None = None) -> Preset:
    """The preset called `name`, or what a method is trained by where none is said."""
    kind = model_class(method)
    if kind.preset is not None:
        return PRESETS[name or kind.preset]
    choices = dict(kind.defaults)
    batch_size = choices.pop("batch_size", 32)
    return Preset(kind.config_type(), Recipe(**choices), batch_size)
