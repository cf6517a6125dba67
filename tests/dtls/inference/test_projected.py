"""Results of any method, projected: they agree with what they were made of, and are never worse for exact sources."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dtls.degradations.base import PROTOCOLS, Protocol
from dtls.degradations.operator import PASSES
from dtls.degradations.resize import resize
from dtls.errors import SamplingError
from dtls.inference.method import Method, load_method
from dtls.inference.projected import Projected
from dtls.inference.sampling import Sampling
from dtls.registry import INTERPOLATIONS
from tests.dtls.inference.test_spandrel import compact, noise, saved, seeded


class Guess(Method):
    """Images in [0, 1] that have nothing to do with what they are made of."""

    name = "guess"
    identity: Mapping[str, str] = {"method": name}
    scale = 3.0
    max_scale = 5.0

    def __call__(self, lr: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        return torch.rand(*lr.shape[:2], *size, generator=torch.Generator().manual_seed(1)).to(lr)


def soft(*shape: int, seed: int = 0) -> Tensor:
    """HR images, smooth and with black and white in them."""
    coarse = torch.rand(*shape[:2], 3, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(1.2 * coarse - 0.1, shape[2:], mode="bilinear").clamp(0, 1)


def errors(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean((1, 2, 3))


@given(
    protocol=st.sampled_from(PROTOCOLS),
    low=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    scale=st.integers(1, 5),
    more=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    channels=st.sampled_from((1, 3)),
    passes=st.integers(1, 16),
    seed=st.integers(0, 9),
)
def test_projecting_never_raises_the_error_of_exact_sources(
    protocol: Protocol,
    low: tuple[int, int],
    scale: int,
    more: tuple[int, int],
    channels: int,
    passes: int,
    seed: int,
) -> None:
    size = (scale * low[0] + more[0], scale * low[1] + more[1])
    hr = soft(2, channels, *size, seed=seed).double()
    lr = resize(hr, low, protocol)
    made, before = Projected(Guess(), protocol, passes)(lr, size), Guess()(lr, size)
    assert (errors(made, hr) <= errors(before, hr) + 1e-12).all()
    assert made.shape == before.shape
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_projected_interpolations_agree_with_their_sources_and_are_nearer_to_the_truth(
    name: str, protocol: Protocol
) -> None:
    hr = soft(2, 3, 52, 40)
    lr = resize(hr, (13, 10), protocol)
    plain = load_method(name)
    once, often = (
        load_method(name, sampling=Sampling(projected=True, made_by=protocol, passes=n)) for n in (1, None)
    )
    found = [method(lr, (52, 40)) for method in (plain, once, often)]
    misfits = [errors(resize(x, (13, 10), protocol), lr).mean() for x in found]
    assert misfits[2] <= misfits[1] <= misfits[0]
    assert errors(found[2], hr).mean() <= errors(found[0], hr).mean()
    assert (name, protocol) == ("nearest", "reference") or misfits[2] < misfits[0] / 20, "that one is exact"
    assert often.identity == {"method": name, "protocol": protocol, "projected": "True", "passes": str(PASSES)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_of_others_is_projected_in_tiles_and_in_grey(protocol: Protocol, tmp_path: Path) -> None:
    path = saved(seeded(compact), tmp_path / "compact.pth")
    how = Sampling(tile=512, projected=True, made_by=protocol)
    method = load_method("spandrel", path, sampling=how)
    assert (method.name, method.scale, method.is_learned, method.uses_gpu) == ("spandrel-Compact", 4, True, True)
    assert method.identity["checkpoint"] == load_method("spandrel", path).identity["checkpoint"]
    for channels in (3, 1):
        lr = 0.25 + noise(1, channels, 40, 140) / 2
        assert errors(resize(method(lr, (160, 560)), (40, 140), protocol), lr).max() < 1e-9
        assert errors(resize(load_method("spandrel", path)(lr, (160, 560)), (40, 140), protocol), lr).min() > 1e-5


OWN = ("identity", "channelwise", "copies", "projects")


def test_it_declares_what_its_method_declares() -> None:
    method = Projected(Guess(), "antialias")
    declared = {name for name in Method.__annotations__ if name not in OWN}
    assert {name: getattr(method, name) for name in declared} == {name: getattr(Guess(), name) for name in declared}
    with pytest.raises(ValueError, match="guess upscales by at most ×5, not ×6"):
        method.check_scale(6)
    copying = Projected(load_method("nearest"), "antialias")
    assert (copying.channelwise, copying.copies) == (False, False), "numbers are computed, of all channels"
    assert copying.takes_same_size
    assert copying.projects


def test_what_is_not_known_or_not_linear_is_not_projected_on() -> None:
    with pytest.raises(SamplingError, match=r"bicubic .* nothing says by which downscaling .* --protocol reference"):
        load_method("bicubic", sampling=Sampling(projected=True))
    for made_by in ("realworld", "realworld:4"):
        with pytest.raises(
            SamplingError, match=f"nothing can be projected on images of {made_by}, which is not linear"
        ):
            load_method("bicubic", sampling=Sampling(projected=True, made_by=made_by))
    with pytest.raises(SamplingError, match=r"blur:2\+grey, as more than one of its parts mixes pixels or channels"):
        load_method("bicubic", sampling=Sampling(projected=True, made_by="blur:2+grey"))
