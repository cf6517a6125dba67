"""Models of other architectures: found out, run as they are, and refused in a line where they cannot serve."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dtls.compat import allow_torchvision_import
from dtls.errors import CheckpointError, SamplingError, SizeError
from dtls.inference.method import load_method
from dtls.inference.sampling import Sampling
from dtls.inference.spandrel import SpandrelModel


def compact(channels: int = 3, scale: int = 4) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)


def esrgan() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    network = ESRGAN(num_filters=8, num_blocks=1, scale=4)
    nn.init.constant_(list(network.parameters())[-1], 0.5)  # the last bias: results within [0, 1]
    return network


def span() -> nn.Module:
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2)


def swinir() -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    shape = {"img_size": 16, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8}
    return SwinIR(**shape, upscale=2, upsampler="pixelshuffledirect")


NETWORKS = {"Compact": (compact, 4), "ESRGAN": (esrgan, 4), "SPAN": (span, 2), "SwinIR": (swinir, 2)}


def seeded(build: Callable[..., nn.Module], *how: Any) -> nn.Module:
    allow_torchvision_import()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(*how).eval()


def saved(network: nn.Module, path: Path) -> Path:
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state}, path)  # as BasicSR does
    return path


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(tmp_path: Path) -> SpandrelModel:
    return SpandrelModel(saved(seeded(compact), tmp_path / "compact.safetensors"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_weights_is_the_network_it_was_saved_from(name: str, suffix: str, tmp_path: Path) -> None:
    build, scale = NETWORKS[name]
    network = seeded(build)
    method = load_method("spandrel", saved(network, tmp_path / f"model{suffix}"))
    assert isinstance(method, SpandrelModel)
    assert (method.name, method.scale) == (f"spandrel-{name}", scale)
    lr = noise(2, 3, 24, 32)
    sr = method(lr, (24 * scale, 32 * scale))
    with torch.inference_mode():
        bare = network(lr).clamp(0, 1)
    assert bare.std() > 1e-3
    torch.testing.assert_close(sr, bare, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sides", [(1, 1), (13, 17), (3, 40)])
def test_any_side_comes_back_at_its_size(name: str, sides: tuple[int, int], tmp_path: Path) -> None:
    method = SpandrelModel(saved(seeded(NETWORKS[name][0]), tmp_path / "model.pth"))
    size = (sides[0] * method.scale, sides[1] * method.scale)
    sr = method(noise(2, 3, *sides), size)
    assert sr.shape == (2, 3, *size)
    assert sr.min() >= 0
    assert sr.max() <= 1


@pytest.mark.parametrize("size", [(48, 64), (72, 96), (192, 256)])
def test_another_size_is_pillow_s_bicubic_of_its_own(model: SpandrelModel, size: tuple[int, int]) -> None:
    lr = noise(1, 3, 24, 32)
    own = model(lr, (96, 128))
    wanted = F.interpolate(own, size, mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(model(lr, size), wanted)


def test_two_scales_at_once_are_refused(model: SpandrelModel) -> None:
    with pytest.raises(SizeError, match="×2 across and ×4 down: one scale is needed"):
        model(noise(1, 3, 8, 8), (32, 16))


def test_grey_is_the_mean_of_three_equal_channels(model: SpandrelModel) -> None:
    grey = noise(2, 1, 9, 14)
    sr = model(grey, (36, 56))
    assert sr.shape == (2, 1, 36, 56)
    three = model(grey.expand(-1, 3, -1, -1), (36, 56))
    torch.testing.assert_close(sr, three.mean(1, keepdim=True), rtol=0, atol=1e-6)


def test_a_grey_model_enlarges_each_channel_as_an_image_of_its_own(tmp_path: Path) -> None:
    method = SpandrelModel(saved(seeded(compact, 1), tmp_path / "grey.safetensors"))
    colours = noise(2, 3, 9, 14)
    sr = method(colours, (36, 56))
    assert sr.shape == (2, 3, 36, 56)
    each = [method(channel[:, None], (36, 56)) for channel in colours.unbind(1)]
    torch.testing.assert_close(sr, torch.cat(each, 1), rtol=0, atol=1e-6)


def test_large_images_are_made_in_tiles_and_small_ones_whole(tmp_path: Path) -> None:
    path = saved(seeded(compact), tmp_path / "compact.pth")
    whole, tiled = (SpandrelModel(path, sampling=Sampling(tile=tile)) for tile in (1024, 512))
    lr = noise(1, 3, 100, 200)
    seen: list[tuple[int, ...]] = []
    tiled.model.model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    assert (tiled(lr, (400, 800)) - whole(lr, (400, 800))).abs().max() <= 1 / 255
    assert seen == [(100, 128), (100, 128)]
    seen.clear()
    tiled(lr[..., :128], (400, 512))
    assert seen == [(100, 128)]


def test_images_of_one_size_go_through_together_where_that_makes_no_difference(tmp_path: Path) -> None:
    model = SpandrelModel(saved(seeded(compact), tmp_path / "compact.pth"))
    batches: list[int] = []
    model.model.model.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    model(noise(5, 3, 20, 30), (80, 120))
    assert batches == [2, 1, 1, 5]
    model(noise(5, 3, 20, 30), (80, 120))
    assert batches == [2, 1, 1, 5, 5]


def test_images_go_through_alone_where_others_would_change_them(tmp_path: Path) -> None:
    model = SpandrelModel(saved(seeded(compact), tmp_path / "compact.pth"))
    lr = noise(3, 3, 20, 30)
    alone = torch.cat([model(one, (80, 120)) for one in lr.split(1)])
    batches: list[int] = []

    def mixed(_: object, given: tuple[torch.Tensor]) -> torch.Tensor:
        batches.append(len(given[0]))
        return 0.9 * given[0] + 0.1 * given[0].flip(0)

    model.model.model.register_forward_pre_hook(mixed)
    torch.testing.assert_close(model(lr, (80, 120)), alone, rtol=0, atol=1e-5)
    assert batches == [2, 1, 1, 1, 1, 1]


def test_models_that_tile_by_themselves_get_the_whole(model: SpandrelModel) -> None:
    from spandrel import ModelTiling

    model.model.tiling = ModelTiling.INTERNAL
    seen: list[tuple[int, ...]] = []
    model.model.model.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    model(noise(1, 3, 20, 1100), (80, 4400))
    assert seen == [(20, 1100)]


def test_the_identity_is_that_of_the_bytes_and_of_what_changes_the_image(tmp_path: Path) -> None:
    path = saved(seeded(compact), tmp_path / "compact.safetensors")
    plain = SpandrelModel(path).identity
    assert plain["checkpoint"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert plain == SpandrelModel(path, sampling=Sampling(precision="fp32")).identity
    others = [SpandrelModel(path, sampling=how).identity for how in (Sampling(tile=512), Sampling(precision="bf16"))]
    others.append(SpandrelModel(saved(seeded(compact, 3, 2), tmp_path / "other.pth")).identity)
    assert len({str(dict(identity)) for identity in [plain, *others]}) == 4


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_is_nearly_the_same_image(name: str, tmp_path: Path) -> None:
    path, lr = saved(seeded(NETWORKS[name][0]), tmp_path / "model.pth"), noise(1, 3, 24, 32)
    exact, fast = (SpandrelModel(path, sampling=Sampling(precision=p)) for p in ("fp32", "bf16"))
    size = (24 * exact.scale, 32 * exact.scale)
    missed = fast(lr, size) - exact(lr, size)
    assert fast(lr, size).dtype == torch.float32
    assert 0 < missed.square().mean().sqrt() < 0.02


def test_bf16_is_refused_where_the_model_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spandrel import ImageModelDescriptor

    monkeypatch.setattr(ImageModelDescriptor, "supports_bfloat16", property(lambda _: False, lambda *_: None), False)
    path = saved(seeded(compact), tmp_path / "compact.pth")
    with pytest.raises(SamplingError, match=r"compact\.pth: Compact cannot compute in bf16; say fp32"):
        SpandrelModel(path, sampling=Sampling(precision="bf16"))
    monkeypatch.setattr("dtls.inference.spandrel.best_precision", lambda wish, device: "bf16")  # as on a GPU
    assert SpandrelModel(path).identity["precision"] == "fp32"


class Hostile:
    """What pickles as a call."""

    def __init__(self, left: Path) -> None:
        self.left = left

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.left),)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        SpandrelModel(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(suffix: str, zipped: bool, tmp_path: Path) -> None:
    path, left = tmp_path / f"model{suffix}", tmp_path / "left"
    content = {"params": seeded(compact).state_dict(), "more": Hostile(left)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert refusal(path) == "holds more than weights, or is broken, and is not unpickled; convert it to .safetensors"
    assert not left.exists()


def test_of_a_torchscript_program_only_the_weights_are_taken(tmp_path: Path) -> None:
    network, lr = seeded(compact), noise(2, 3, 12, 16)
    torch.jit.trace(network, lr).save(str(tmp_path / "model.pt"))
    method = SpandrelModel(tmp_path / "model.pt")
    assert method.name == "spandrel-Compact"
    assert torch.equal(method(lr, (48, 64)), SpandrelModel(saved(network, tmp_path / "model.pth"))(lr, (48, 64)))
    torch.jit.trace(nn.Conv2d(3, 3, 1), lr).save(str(tmp_path / "other.pt"))
    assert refusal(tmp_path / "other.pt") == "not a model that spandrel knows"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_no_known_model_are_refused(suffix: str, tmp_path: Path) -> None:
    path = saved(nn.Conv2d(3, 3, 1), tmp_path / f"model{suffix}")
    assert refusal(path) == "not a model that spandrel knows"


@pytest.mark.parametrize("content", [[1, 2], {"a": 1, 2: "b"}, {}, {"params": {}}, {"body.0.weight": 1}])
def test_what_is_no_state_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert refusal(tmp_path / "model.pth") in ("holds no weights by name", "not a model that spandrel knows")


def test_weights_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    network = seeded(compact)
    path = tmp_path / "model.pth"
    torch.save({k: v for k, v in network.state_dict().items() if k != "body.2.weight"}, path)
    assert refusal(path).startswith("its weights do not make a model (")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".ckpt"])
@pytest.mark.parametrize("kept", [0, 1, 100, -10])
def test_a_file_cut_short_is_refused(suffix: str, kept: int, tmp_path: Path) -> None:
    path = saved(seeded(compact), tmp_path / f"model{suffix}")
    path.write_bytes(path.read_bytes()[:kept])
    refusal(path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("a.txt", "a")
    refusal(tmp_path / "model.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path) -> None:
    network = seeded(compact)
    network.state_dict()["body.2.weight"].view(-1)[-1] = value
    path = saved(network, tmp_path / "model.safetensors")
    assert refusal(path) == "body.2.weight holds values that are no numbers"


def test_models_for_faces_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(seeded(compact), tmp_path / "model.pth")
    from spandrel import ImageModelDescriptor

    monkeypatch.setattr(ImageModelDescriptor, "purpose", "FaceSR")  # a real one weighs hundreds of megabytes
    assert refusal(path) == (
        "a Compact model for cut-out, aligned faces alone, which no command here takes; take a model for any image"
    )


LOADING = """
import sys, warnings
from pathlib import Path
from dtls.compat import allow_torchvision_import
from dtls.inference.spandrel import SpandrelModel
allow_torchvision_import()
import torch
from spandrel import ModelLoader
outside = warnings.filters[:]
load = ModelLoader.load_from_state_dict
def disturbed(*given):
    warnings.filters[:] = outside  # as another thread leaves its own catch_warnings
    warnings._filters_mutated()
    return load(*given)
ModelLoader.load_from_state_dict = disturbed
SpandrelModel(Path(sys.argv[1]))(torch.rand(1, 3, 30, 41), (60, 82))
"""


@pytest.mark.slow
def test_nothing_of_a_library_s_warnings_is_printed_whatever_other_threads_do(tmp_path: Path) -> None:
    path = saved(seeded(swinir), tmp_path / "model.pth")
    done = subprocess.run([sys.executable, "-c", LOADING, str(path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("channels", [2, 4])
def test_models_of_other_channels_are_refused(channels: int, tmp_path: Path) -> None:
    path = saved(seeded(compact, channels, 2), tmp_path / "model.pth")
    assert refusal(path) == f"a Compact model from {channels} channels to {channels}, not of 1 or 3"


def test_a_path_that_leads_nowhere_or_to_something_else_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.pth") == "no such file"
    (tmp_path / "folder.pth").mkdir()
    assert refusal(tmp_path / "folder.pth") == "Is a directory"
    wanted = "a model for spandrel is a file that ends in .safetensors, .pth, .pt, .ckpt"
    assert refusal(tmp_path) == wanted
    assert refusal(tmp_path / "model.onnx") == wanted
