"""The benchmark's two networks are one function, and a run of it has every number that it promises."""

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.models.dtls import DTLS
from dtls.networks.unet import UNet
from dtls.training.presets import PRESETS
from tests.bench.engine import main
from tests.bench.kinds import KINDS, kind_of_kernel, kind_of_operator
from tests.bench.measure import best_batch, forward_flops, psnr
from tests.bench.plain import PlainUNet
from tests.bench.subjects import SHAPES

HIDDEN = """
import sys
for name in ("lightning_fabric", "huggingface_hub", "safetensors", "skimage"):
    sys.modules[name] = None
from importlib import util
real = util.find_spec
util.find_spec = lambda name, package=None: None if sys.modules.get(name, 1) is None else real(name, package)
from tests.bench.engine import main
sys.exit(main(["--quick", "--device", "cpu", "--presets", "16-128", "--repeats", "1", "--precision", "bf16"]))
"""


def duplicates(multipliers: tuple[int, ...], *, residual: bool) -> tuple[PlainUNet, UNet]:
    """Both networks in float64 with the same random weights, norms and last layer included."""
    torch.manual_seed(0)
    ours = UNet(8, multipliers, residual=residual).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3 / math.sqrt(max(1, parameter[0].numel())))
    plain = PlainUNet(8, multipliers, residual=residual).double()
    plain.load_state_dict(ours.state_dict())
    return plain, ours


@pytest.mark.slow
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("preset", ["16-128", pytest.param("32-512", marks=pytest.mark.nightly)])
def test_the_plain_network_is_ours_with_every_gradient(preset: str, residual: bool) -> None:
    networks = duplicates(SHAPES[preset].multipliers, residual=residual)
    side = networks[1].multiple
    x, t = torch.rand(3, 3, side, 2 * side, dtype=torch.float64), torch.tensor([1, 7, 28])
    made = [network(x, t) for network in networks]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-12)
    assert made[0].std() > 0.01  # weights under which a difference would be seen
    gradients: list[dict[str, Tensor]] = []
    for network, out in zip(networks, made, strict=True):
        (out * torch.linspace(0, 1, out.numel(), dtype=torch.float64).view_as(out)).mean().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == len(list(networks[1].parameters()))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("preset", list(SHAPES))
def test_the_shapes_are_those_of_the_presets(preset: str) -> None:
    config = asdict(PRESETS[preset].model)
    assert (config.pop("predicts"), config.pop("patch"), config.pop("degradation")) == ("x0", 1, None)
    assert asdict(SHAPES[preset]) == config


def test_the_flops_of_a_convolution_are_counted() -> None:
    class Nine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.convolution(x)

    with torch.device("meta"):
        assert forward_flops(Nine(), 16) == 2 * 3 * 5 * 9 * 16 * 16


def test_psnr_is_of_eight_bits() -> None:
    black = torch.zeros(1, 3, 4, 4)
    assert psnr(black, black + 0.4 / 255) == 100
    assert psnr(black, black + 0.6 / 255) == pytest.approx(20 * math.log10(255))


def test_the_best_batch_is_the_last_after_which_the_rate_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {1: 10.0, 2: 19.0, 4: 30.0, 8: 31.0, 16: 60.0}
    monkeypatch.setattr("tests.bench.measure._rate", lambda call, batch, device: rates[batch])
    assert best_batch(lambda batch: batch, "cpu", 512) == 4
    assert best_batch(lambda batch: batch, "cpu", 2) == 2


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x64x64", KINDS[0]),
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NNT", KINDS[0]),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, __nv_bfloat16, float>", KINDS[0]),
        ("triton_tem_fused_convolution_4", KINDS[0]),
        ("void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<7, c10::BFloat16, int>", KINDS[1]),
        ("void conv2d_c1_k1_nhwc_kernel<__nv_bfloat16, float, 7, 7>", KINDS[1]),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float, false>", KINDS[2]),
        ("triton_per_fused_convolution_native_layer_norm_3", KINDS[2]),
        ("void at::native::(anonymous namespace)::cunn_SpatialSoftMaxForward<c10::BFloat16, float>", KINDS[3]),
        ("triton_red_fused__softmax__to_copy_7", KINDS[3]),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl>", KINDS[4]),
        ("triton_poi_fused__to_copy_convolution_gelu_12", KINDS[4]),
        ("Memcpy DtoD (Device -> Device)", KINDS[5]),
        ("void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda>", KINDS[5]),
        ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float>", KINDS[5]),
        ("triton_poi_fused__to_copy_cat_5", KINDS[5]),
        ("something else", KINDS[6]),
    ],
)
def test_a_kernel_is_known_by_its_name(kernel: str, kind: str) -> None:
    assert kind_of_kernel(kernel) == kind


def test_an_operator_is_known_by_its_name_and_shapes() -> None:
    image = [1, 8, 16, 16]
    assert kind_of_operator("aten::mkldnn_convolution", (image, [8, 1, 7, 7], [8])) == KINDS[1]
    assert kind_of_operator("aten::convolution_backward", (image, image, [8, 1, 7, 7])) == KINDS[1]
    assert kind_of_operator("aten::mkldnn_convolution", (image, [16, 8, 3, 3], [16])) == KINDS[0]
    assert kind_of_operator("graph_0_cpp_fused__to_copy_gelu_5", ()) == KINDS[4]


@pytest.mark.nightly
def test_a_quick_run_has_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--device", "cpu", "--precision", "fp32", "--train-batch", "3", "--repeats", "2"]
    assert main([*arguments, "--profile", "--json", str(tmp_path / "engine.json")]) == 0
    found: dict[str, Any] = json.loads((tmp_path / "engine.json").read_text())
    printed = capsys.readouterr().out
    assert all(str(value) in printed for value in found["conditions"].values())
    assert {"date", "CPU", "GPU", "torch", "command", "weights"} <= found["conditions"].keys()
    assert found["conditions"]["command"].endswith(f"--json {tmp_path / 'engine.json'}")
    assert found["errors"] == []
    assert found["peak"].keys() == {"bf16", "fp32"}
    assert [row["what"] for row in found["sampling"]] == ["16-128, 28 calls / 2"] * 2 + ["32-512, 30 calls / 2"] * 2
    assert [found["sampling"][n]["batch"] for n in (0, 2)] == [{"plain": 1, "ours": 1}] * 2
    for row in found["training"] + found["sampling"]:
        assert min(row["rate"].values()) > 0
        assert row["ratio"] == pytest.approx(row["rate"]["ours"] / row["rate"]["plain"])
        assert row["memory"] == {"plain": None, "ours": None}
        assert row["share_of_peak"] > 0
    for row in found["sampling"]:
        assert row["psnr_between"] > 60
        assert row["psnr"]["plain"] == pytest.approx(row["psnr"]["ours"], abs=0.02)
    assert [row["ours_is"] for row in found["training"]] == ["Trainer"]
    assert len(found["profiles"]) >= 3
    for profile in found["profiles"].values():
        assert list(profile["shares"]) == list(KINDS)
        assert sum(profile["shares"].values()) == pytest.approx(1)


@pytest.mark.nightly
def test_torch_alone_is_enough() -> None:
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "under autocast in a plain loop (no lightning_fabric and huggingface_hub here)" in done.stdout
    assert "smooth noise (no scikit-image here)" in done.stdout
    assert done.stdout.count("28 calls / 2") == 2


@pytest.mark.nightly
def test_a_checkpoint_is_sampled_instead_of_the_presets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), residual=True, size=32, stride=4, steps=4), tmp_path / "model")
    report = tmp_path / "engine.json"
    arguments = ["--quick", "--device", "cpu", "--checkpoint", str(tmp_path / "model"), "--train-batch", "2"]
    assert main([*arguments, "--repeats", "1", "--json", str(report)]) == 0
    found: dict[str, Any] = json.loads(report.read_text())
    assert found["conditions"]["weights"] == str(tmp_path / "model")
    assert [row["what"] for row in found["sampling"]] == ["16-32, 4 calls / 2"] * 2
    assert [row["psnr_between"] for row in found["sampling"]] == [100, 100]  # it is the identity: D_1 of what it got
    assert found["sampling"][0]["psnr"]["plain"] > 15  # of a photograph and itself, blurred


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json there"):
        main(["--quick", "--device", "cpu", "--checkpoint", str(tmp_path)])
