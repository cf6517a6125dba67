"""What options can choose, by name, and defaults of theirs: it imports nothing, so that help is shown at once."""

from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]
Prediction = Literal["x0", "previous"]
SamplerName = Literal[
    "two-call", "one-call", "current", "none", "last", "hr", "undegraded", "written", "cold", "previous"
]
DiffusionSampler = Literal["ddim", "ddpm"]
TILE, SMALLEST = 1024, 128
"""Sides in pixels: of a tile, and of the smallest tile tried."""
