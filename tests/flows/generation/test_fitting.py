"""Whether an upscaler fits a model: which sizes it reaches."""

from typing import Any

import pytest

from dtls.errors import SizeError
from dtls.inference.interpolation import Interpolation
from flows.generation.fitting import enlarged_size
from tests.flows.generation.fakes import Fake


def upscaler(**declared: Any) -> Any:
    """Bicubic, with other declarations."""
    method = Interpolation("bicubic")
    for name, value in declared.items():
        setattr(method, name, value)
    return method


def test_the_size_is_by_default_what_the_upscaler_makes() -> None:
    fake: Any = Fake()
    assert enlarged_size(fake, upscaler(), None) == 16
    assert enlarged_size(fake, upscaler(max_scale=2.0), None) == 8
    assert enlarged_size(fake, upscaler(scale=3.0), None) == 12
    assert enlarged_size(fake, upscaler(), 7) == 7


def test_sizes_that_are_not_reached_are_refused() -> None:
    fake: Any = Fake()
    with pytest.raises(SizeError, match=r"more than the 4 pixels that fake makes, not 4"):
        enlarged_size(fake, upscaler(), 4)
    with pytest.raises(SizeError, match=r"at most ×2, not ×4"):
        enlarged_size(fake, upscaler(max_scale=2.0), 16)
    with pytest.raises(SizeError, match="restores images at their own size"):
        enlarged_size(fake, upscaler(max_scale=1.0), 16)
