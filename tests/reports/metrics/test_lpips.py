"""LPIPS with VGG: the wiring is the package's own, shown with a random trunk, and weights are refused in one line."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dtls.compat import allow_torchvision_import
from dtls.errors import WeightsError
from reports.metrics.lpips import VGG_FILE, load_lpips_vgg, lpips


@pytest.fixture(scope="module")
def trunk() -> dict[str, Tensor]:
    """torchvision's VGG16 without its classifier, with random weights."""
    allow_torchvision_import()
    from torchvision.models import vgg16

    with torch.device("meta"):
        layers = vgg16(weights=None).features.state_dict()
    random = torch.Generator().manual_seed(0)
    return {
        f"features.{name}": torch.randn(weight.shape, generator=random) * (2 / weight[0].numel()) ** 0.5
        for name, weight in layers.items()
    }


@pytest.fixture(scope="module")
def file(trunk: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / VGG_FILE
    torch.save(trunk, path)
    return path


@pytest.fixture(scope="module")
def ours(file: Path) -> nn.Module:
    return load_lpips_vgg(file)


@pytest.mark.slow
def test_the_distances_are_those_of_the_package_itself(
    trunk: dict[str, Tensor], ours: nn.Module, photographs: dict[str, Tensor]
) -> None:
    import lpips as package

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        theirs = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    heads = Path(package.__file__).with_name("weights") / "v0.1" / "vgg.pth"
    theirs.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False, assign=True)
    for part in (theirs.net.slice1, theirs.net.slice2, theirs.net.slice3, theirs.net.slice4, theirs.net.slice5):
        for name, layer in part.named_children():
            for kind, _ in list(layer.named_parameters()):
                setattr(layer, kind, nn.Parameter(trunk[f"features.{name}.{kind}"]))
    a = torch.stack([*photographs.values()])[..., 32:96, 32:96]
    b = a.roll(1, dims=0)
    with torch.inference_mode():
        expected = theirs(a.float() / 127.5 - 1, b.float() / 127.5 - 1).flatten().double()
    found = lpips(a, b, ours)
    assert (found > 0).all()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert lpips(a, a, ours).tolist() == [0.0] * 4


def test_safetensors_do_as_well(trunk: dict[str, Tensor], ours: nn.Module, tmp_path: Path) -> None:
    save_file(trunk, tmp_path / "vgg16.safetensors")
    other = load_lpips_vgg(tmp_path / "vgg16.safetensors")
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
def test_the_file_in_torch_hubs_cache_is_found(
    file: Path, ours: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / VGG_FILE).symlink_to(file)
    found = load_lpips_vgg()
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), found.parameters(), strict=True))


def test_missing_weights_are_one_line_that_says_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        WeightsError, match=rf"VGG16, {VGG_FILE}, and there is no {tmp_path}/hub/checkpoints/{VGG_FILE}"
    ) as e:
        load_lpips_vgg()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "content", [{"features.0.weight": torch.zeros(64, 3, 3, 3)}, {"features.0.weight": torch.zeros(1)}]
)
def test_other_weights_are_refused_in_one_line(content: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth is not torchvision's VGG16") as e:
        load_lpips_vgg(tmp_path / "other.pth")
    assert "\n" not in str(e.value)


def test_files_that_hold_more_than_weights_are_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "was run"),)

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth cannot be read as weights") as e:
        load_lpips_vgg(tmp_path / "evil.pth")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "was run").exists()
