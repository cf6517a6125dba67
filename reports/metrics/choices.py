"""What a measurement can choose, by name. It imports nothing, so that help is shown at once."""

from typing import Literal

Colour = Literal["rgb", "y"]
FeatureName = Literal["inception", "lpips", "pixels"]
