"""Generative models for tests: small, untrained, and soon done."""

from pathlib import Path
from typing import Any

import torch

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.models.ddpm import DDPM
from flows.generate import GenerateOptions, generate

SIZE = 8
"""Of its images."""


def save_prior(folder: Path, **config: Any) -> str:
    """The address of a DDPM that makes noise of noise, in two steps."""
    torch.manual_seed(0)
    save_checkpoint(DDPM(**{"size": SIZE, "levels": 1, "width": 8, "timesteps": 2, **config}), folder)
    return str(folder)


def generated(model: str, target: Path | str, **options: Any) -> str:
    """What the flow prints."""
    given = {"model": model, "target": str(target), "device": "cpu", "unit_size": 4, **options}
    return generate.fn(GenerateOptions.model_validate(given))
