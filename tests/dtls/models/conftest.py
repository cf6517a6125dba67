"""Small images for the diffusion models; others have larger ones of their own."""

import pytest
from torch import Tensor

from dtls.degradations.resize import resize


@pytest.fixture(scope="module")
def hr(images: Tensor) -> Tensor:
    """Real images in [0, 1], (12, 3, 16, 16)."""
    return resize(images.float() / 255, (16, 16), "antialias").clamp(0, 1)


@pytest.fixture(scope="module")
def enlarged(hr: Tensor) -> Tensor:
    """What two of them are after ×4 down and up again."""
    return resize(resize(hr[:2], (4, 4), "antialias"), (16, 16), "antialias")
