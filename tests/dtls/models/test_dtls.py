"""The method `dtls`: its sampler on images of any size, projected, mirrored, in tiles, as its options say."""

import shutil
from dataclasses import asdict
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, load_checkpoint, save_checkpoint
from dtls.choices import SamplerName
from dtls.degradations.base import PROTOCOLS
from dtls.degradations.resize import resize
from dtls.errors import CheckpointError, SamplingError, SizeError
from dtls.inference.sampling import Sampling
from dtls.inference.trained import Trained
from dtls.models.dtls import DTLS, ModelConfig
from dtls.samplers.dtls import SAMPLERS, current, two_call

SMALL = ModelConfig(8, (1, 2, 2, 2), residual=True, size=32, stride=4, steps=6)


def saved(folder: Path, config: ModelConfig) -> Path:
    """A checkpoint whose network is random; one that is residual adds a little to what it gets."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DTLS(**asdict(config))
        if config.residual:
            nn.init.normal_(model.unet.rgb.weight, std=0.02)
    save_checkpoint(model, folder)
    return folder


@pytest.fixture(scope="module", params=PROTOCOLS)
def little(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of either protocol, 8→32 with stride 4, whose networks add a little to what they get."""
    return saved(tmp_path_factory.mktemp("little"), ModelConfig(**asdict(SMALL) | {"protocol": request.param}))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow network in the geometry of the preset 16-128."""
    return saved(tmp_path_factory.mktemp("faces"), ModelConfig(dim=8, size=128, stride=4, steps=28))


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose network predicts the previous step."""
    return saved(tmp_path_factory.mktemp("stepping"), ModelConfig(**asdict(SMALL) | {"predicts": "previous"}))


def unit(images: Tensor) -> Tensor:
    return images.float() / 255


def soft(images: Tensor) -> Tensor:
    """Images away from 0 and 1, where results are cut."""
    return 0.4 + 0.2 * unit(images)


def padded(x: Tensor, multiple: int) -> Tensor:
    """x with its last row and column repeated up to the next multiple."""
    rows, columns = (torch.arange(-(-n // multiple) * multiple).clamp(max=n - 1) for n in x.shape[-2:])
    return x[..., rows, :][..., columns]


def error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).double().square().mean((1, 2, 3))


def test_dtls_is_the_authors_sampler(imported: Path, expected: dict[str, Tensor]) -> None:
    lr = resize(expected["x"], (8, 8), "reference")
    sr = Trained(imported)(lr, (32, 32))
    torch.testing.assert_close(sr, expected["sr"].clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "previous"])
def test_every_sampler_can_be_chosen(name: SamplerName, imported: Path, model: DTLS, images: Tensor) -> None:
    lr = unit(images)[:2, :, :8, :8]
    x = resize(lr, (32, 32), "reference")
    by_hand = SAMPLERS[name](model, model.degradation, x, 6).clamp(0, 1)
    torch.testing.assert_close(
        Trained(imported, sampling=Sampling(sampler=name))(lr, (32, 32)), by_hand, rtol=0, atol=1e-5
    )


@pytest.mark.slow
def test_a_network_that_predicts_the_previous_step_has_a_sampler_of_its_own(stepping: Path, images: Tensor) -> None:
    lr = unit(images)[:1, :, :8, :8]
    by_itself, asked_for = Trained(stepping), Trained(stepping, sampling=Sampling(sampler="previous"))
    assert by_itself.identity["sampler"] == "previous"
    assert by_itself.identity == asked_for.identity
    assert [step.t for step in by_itself.trajectory(lr, (32, 32))] == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_a_sampler_that_its_network_cannot_serve_is_refused(
    name: SamplerName, imported: Path, stepping: Path
) -> None:
    folder, predicts = (imported, "x0") if name == "previous" else (stepping, "previous")
    with pytest.raises(SamplingError) as refused:
        Trained(folder, sampling=Sampling(sampler=name))
    assert str(refused.value) == f"{folder}: its network predicts {predicts}, so the sampler {name} cannot use it"


@pytest.mark.slow
def test_sampling_starts_at_the_timestep_of_the_scale(imported: Path, model: DTLS, images: Tensor) -> None:
    lr = resize(unit(images), (32, 32), "reference")
    enlarged = resize(lr, (64, 64), "reference")
    by_hand = current(model, model.degradation, enlarged, 4).clamp(0, 1)
    torch.testing.assert_close(Trained(imported)(lr, (64, 64)), by_hand, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("low", "high", "t"),
    [
        ((80, 80), (128, 128), 12),
        ((32, 32), (128, 128), 24),
        ((45, 67), (135, 201), 21),
        ((30, 41), (48, 66), 12),
        ((20, 33), (61, 100), 21),
        ((1, 1), (8, 8), 28),
        ((1, 1), (2, 2), 16),
        ((3, 1), (10, 3), 22),
    ],
)
def test_any_scale_starts_at_the_nearest_timestep_and_any_side_is_padded_and_cut(
    low: tuple[int, int], high: tuple[int, int], t: int, faces: Path
) -> None:
    model = load_checkpoint(faces, DTLS)
    lr = torch.rand(1, 3, *low, generator=torch.Generator().manual_seed(0))
    x = padded(resize(lr, high, "reference"), 8)
    by_hand = two_call(model, model.degradation, x, t)[..., : high[0], : high[1]].clamp(0, 1)
    sr = Trained(faces)(lr, high)
    assert sr.shape == (1, 3, *high)
    torch.testing.assert_close(sr, by_hand, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", [Sampling(), Sampling(projected=True, ensemble=True)])
@pytest.mark.parametrize(
    ("sides", "size"),
    [((10, 13), (40, 52)), ((13, 10), (26, 20)), ((48, 32), (192, 128)), ((1, 1), (4, 4)), ((21, 7), (25, 8))],
)
def test_results_have_exactly_the_size_wanted_and_stay_in_range(
    sides: tuple[int, int], size: tuple[int, int], how: Sampling, imported: Path, images: Tensor
) -> None:
    lr = unit(images)[:2, :, : sides[0], : sides[1]]
    sr = Trained(imported, sampling=how)(lr, size)
    assert sr.shape == (2, 3, *size)
    assert sr.min() >= 0
    assert sr.max() <= 1


def test_a_scale_beyond_the_model_is_refused_with_the_largest(imported: Path) -> None:
    method = Trained(imported)
    for size, scale in (((64, 64), "8"), ((8, 8), "1"), ((33, 33), "4.125"), ((4, 4), "0.5")):
        with pytest.raises(SizeError) as refused:
            method(torch.rand(1, 3, 8, 8), size)
        assert str(refused.value) == (f"this checkpoint (8→32) upscales by more than ×1 and at most ×4, not ×{scale}")


def test_the_largest_scale_may_be_rounded_to_whole_pixels(tmp_path: Path) -> None:
    method = Trained(saved(tmp_path, ModelConfig(8, (1, 2), size=32, stride=4, steps=3)))  # 20→32, ×1.6
    assert method(torch.rand(1, 3, 67, 45), (107, 72)).shape == (1, 3, 107, 72)
    assert method(torch.rand(1, 3, 68, 46), (109, 74)).shape == (1, 3, 109, 74)


def test_two_scales_at_once_are_refused(imported: Path) -> None:
    with pytest.raises(SizeError, match="×2 across and ×4 down: one scale is needed"):
        Trained(imported)(torch.rand(1, 3, 8, 8), (32, 16))


CLEAN = [
    ((16, 16), (64, 64)),
    ((10, 13), (40, 52)),
    ((7, 9), (14, 18)),
    ((21, 13), (63, 39)),
    ((40, 25), (64, 40)),
    ((17, 11), (50, 32)),
    ((57, 61), (60, 64)),
]
"""LR and HR sides: whole scales, some of sides that the network cannot halve, and scales between."""
EACH_CLEAN = pytest.mark.parametrize(
    ("little", "low", "high"),
    [(protocol, *sides) for protocol, sides in zip(cycle(PROTOCOLS), [*CLEAN, *CLEAN[:1]], strict=False)],
    indirect=["little"],
)
"""One protocol for each, and both for the first."""


@pytest.mark.slow
@EACH_CLEAN
def test_a_projected_result_is_reduced_to_its_lr_but_for_the_rounding_of_what_is_saved(
    low: tuple[int, int], high: tuple[int, int], little: Path, images: Tensor
) -> None:
    method = Trained(little, sampling=Sampling(projected=True))
    protocol = method.model.config.protocol
    lr = resize(soft(images)[::6, :, : high[0], : high[1]], low, protocol)
    sr = method(lr, high)
    assert 0 < sr.min() < sr.max() < 1  # nothing was cut
    assert error(resize(sr, low, protocol), lr).max() < 1e-10
    as_saved = (sr * 255).round() / 255
    assert error(resize(as_saved, low, protocol), lr).max() < 1e-5
    assert error(resize(Trained(little)(lr, high), low, protocol), lr).min() > 1e-5


@pytest.mark.slow
@EACH_CLEAN
def test_projection_never_costs_psnr_for_a_clean_lr(
    low: tuple[int, int], high: tuple[int, int], little: Path, images: Tensor
) -> None:
    plain, projected = (Trained(little, sampling=Sampling(projected=p)) for p in (False, True))
    few = images[::6, :, : high[0], : high[1]]
    for hr in (unit(few), soft(few)):
        lr = resize(hr, low, plain.model.config.protocol)
        before, after = error(plain(lr, high), hr), error(projected(lr, high), hr)
        assert (after <= before + 1e-9).all()
        assert (after < 0.999 * before).any()


@pytest.mark.slow
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize(("low", "high"), [((16, 16), (64, 64)), ((10, 13), (40, 52)), ((21, 13), (50, 31))])
def test_with_the_ensemble_a_mirrored_image_gives_the_mirrored_result(
    low: tuple[int, int], high: tuple[int, int], projected: bool, imported: Path, images: Tensor
) -> None:
    method = Trained(imported, sampling=Sampling(ensemble=True, projected=projected))
    lr = unit(images)[:2, :, : low[0], : low[1]]
    torch.testing.assert_close(method(lr.flip(-1), high), method(lr, high).flip(-1), rtol=0, atol=1e-5)
    plain = Trained(imported)
    assert (plain(lr.flip(-1), high) - plain(lr, high).flip(-1)).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [((16, 16), (64, 64)), ((10, 13), (40, 52))])
def test_the_ensemble_is_the_mean_with_the_mirrored_image_s(
    low: tuple[int, int], high: tuple[int, int], little: Path, images: Tensor
) -> None:
    lr = soft(images)[:2, :, : low[0], : low[1]]
    one, both = Trained(little), Trained(little, sampling=Sampling(ensemble=True))
    straight, mirrored = one(lr, high), one(lr.flip(-1), high).flip(-1)
    assert 0 < min(straight.min(), mirrored.min()) < max(straight.max(), mirrored.max()) < 1
    assert (straight - mirrored).abs().max() > 1e-4
    torch.testing.assert_close(both(lr, high), (straight + mirrored) / 2, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_bf16_is_nearly_the_same_image_and_another_identity(imported: Path, expected: dict[str, Tensor]) -> None:
    lr = resize(expected["x"], (8, 8), "reference")
    exact, fast = (Trained(imported, sampling=Sampling(precision=p)) for p in ("fp32", "bf16"))
    missed = error(exact(lr, (32, 32)), fast(lr, (32, 32)))
    assert missed.min() > 1e-9
    assert (10 * torch.log10(1 / missed)).min() > 48  # 53 dB and more, measured
    assert exact.identity != fast.identity
    assert (exact.identity["precision"], fast.identity["precision"]) == ("fp32", "bf16")
    assert Trained(imported).identity == exact.identity  # what auto is on a CPU


@pytest.mark.slow
def test_the_identity_tells_apart_what_changes_the_image_and_only_that(imported: Path, little: Path) -> None:
    plain = Trained(imported).identity
    others = [
        Sampling(sampler="current"),
        Sampling(projected=True),
        Sampling(projected=True, passes=4),
        Sampling(projected=True, made_by="antialias"),
        Sampling(ensemble=True),
        Sampling(precision="bf16"),
        Sampling(tile=512),
    ]
    identities = [plain, Trained(little).identity, *(Trained(imported, sampling=h).identity for h in others)]
    assert len({str(dict(identity)) for identity in identities}) == len(identities)
    for same in (Sampling(sampler="two-call"), Sampling(precision="fp32"), Sampling(compiled=True)):
        assert Trained(imported, sampling=same).identity == plain
    once = Trained(imported, sampling=Sampling(projected=True)).identity
    assert once == {**plain, "projected": "True"}, "as version 0.1 had it"
    assert Trained(imported, sampling=Sampling(projected=True, made_by="reference", passes=1)).identity == once
    assert plain["protocol"] == "reference"
    assert len(plain["checkpoint"]) == 64


@pytest.mark.slow
@pytest.mark.parametrize("name", ["current", "two-call", "hr"])
def test_the_trajectory_is_what_the_sampler_predicts_cut_to_size_and_then_the_result(
    name: SamplerName, imported: Path, model: DTLS, images: Tensor
) -> None:
    lr, size = unit(images)[:2, :, :10, :13], (37, 49)  # padded to 40×52, at t = 6
    seen: list[tuple[float, Tensor]] = []
    x = padded(resize(lr, size, "reference"), 4)
    SAMPLERS[name](model, model.degradation, x, 6, lambda t, _, made: seen.append((t, made)))
    method = Trained(imported, sampling=Sampling(sampler=name))
    *predictions, (end, _, result) = method.trajectory(lr, size)
    assert [step.t for step in predictions] == ([6, 1] if name == "two-call" else [6, 5, 4, 3, 2, 1])
    for (t, _, ours), (s, made) in zip(predictions, seen, strict=True):
        assert t == s
        torch.testing.assert_close(ours, made[..., :37, :49].clamp(0, 1), rtol=0, atol=1e-5)
    assert end == 0
    torch.testing.assert_close(result, method(lr, size), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_result_larger_than_a_tile_is_that_of_the_whole_but_for_what_the_tiles_do_not_see(
    little: Path, images: Tensor
) -> None:
    lr = unit(images)[:1, :, :33, :50]
    whole, tiled = (Trained(little, sampling=Sampling(tile=tile)) for tile in (1024, 128))
    in_tiles, in_one = tiled(lr, (132, 200)), whole(lr, (132, 200))
    assert not torch.equal(in_tiles, in_one)
    assert (10 * torch.log10(1 / error(in_tiles, in_one))).min() > 50
    lr = lr[..., :32, :32]
    assert torch.equal(tiled(lr, (128, 128)), whole(lr, (128, 128)))


@pytest.mark.slow
def test_memory_that_runs_out_means_smaller_batches_and_tiles_not_failure(little: Path, images: Tensor) -> None:
    lr = unit(images)[:2, :, :40, :32]
    enough = Trained(little, sampling=Sampling(ensemble=True, projected=True, tile=128))(lr, (160, 128))
    method = Trained(little, sampling=Sampling(ensemble=True, projected=True))
    network, asked = method.network, []

    def short(x: Tensor, t: Tensor) -> Tensor:
        asked.append(x.shape[0] * x.shape[2] * x.shape[3])
        if asked[-1] > 128 * 128:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return network(x, t)

    method.network = short
    torch.testing.assert_close(method(lr, (160, 128)), enough, rtol=0, atol=1e-5)
    assert asked[:3] == [2 * 160 * 128, 160 * 128, 128 * 128]


NEEDS_A_COMPILER = pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles for a CPU in C++")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["eager", pytest.param("inductor", marks=[pytest.mark.nightly, NEEDS_A_COMPILER])])
def test_a_compiled_network_gives_the_same_image(
    by: str, tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced by torch in any case; made into machine code, which takes half a minute, by its default."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=by))
    folder = saved(tmp_path, ModelConfig(4, (1,), residual=True, size=32, stride=4, steps=6))
    lr = unit(images)[:1, :, :8, :8]
    plain, compiled = (Trained(folder, sampling=Sampling(compiled=c)) for c in (False, True))
    assert (plain(lr, (32, 32)) - resize(lr, (32, 32), "reference")).abs().max() > 1e-3
    torch.testing.assert_close(compiled(lr, (32, 32)), plain(lr, (32, 32)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["unet.rgb.weight", "unet.encoder.0.block1.depthwise.bias"])
def test_weights_that_are_no_numbers_are_refused_by_name(
    name: str, value: float, model: DTLS, tmp_path: Path
) -> None:
    model.state_dict()[name].view(-1)[-1] = value
    save_checkpoint(model, tmp_path)
    for load in (load_checkpoint, Trained):
        with pytest.raises(CheckpointError) as refused:
            load(tmp_path)
        assert str(refused.value) == f"{tmp_path / WEIGHTS}: {name} holds values that are no numbers"


@pytest.mark.slow
def test_the_identity_is_that_of_the_very_bytes(imported: Path, tmp_path: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((imported / name).read_bytes())
    assert Trained(tmp_path).identity == Trained(imported).identity
    (tmp_path / CONFIG).write_text((tmp_path / CONFIG).read_text().replace('"stride": 4', '"stride": 3'))
    assert Trained(tmp_path).identity["checkpoint"] != Trained(imported).identity["checkpoint"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [Sampling(), Sampling(projected=True, ensemble=True)])
def test_a_grey_image_is_the_mean_of_that_of_three_equal_channels(
    how: Sampling, imported: Path, images: Tensor
) -> None:
    method, grey = Trained(imported, sampling=how), unit(images)[:2, :1, :10, :13]
    three = method(grey.expand(-1, 3, -1, -1), (40, 52))
    assert (three[:, 0] - three[:, 1]).abs().max() > 1e-3
    sr = method(grey, (40, 52))
    assert sr.shape == (2, 1, 40, 52)
    torch.testing.assert_close(sr, three.mean(1, keepdim=True), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_images_that_ran_out_of_memory_teach_the_next(little: Path, images: Tensor) -> None:
    method, lr = Trained(little), unit(images)[:1, :, :40, :40]
    network, failures = method.network, []

    def short(x: Tensor, t: Tensor) -> Tensor:
        if x.shape[2] * x.shape[3] > 128 * 128:
            failures.append(x.shape)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return network(x, t)

    method.network = short
    first = method(lr, (160, 160))
    assert len(failures) == 1
    assert torch.equal(method(lr, (160, 160)), first)
    assert len(failures) == 1
