"""Numbers a second: a loop over pairs with skimage and lpips, as people write it, against `reports.metrics.score`.

    python -m tests.bench.metrics                                 # 64 images of 128×128, 1, 2 and 4 methods
    python -m tests.bench.metrics --threads 1 --repeats 9

Both get the same uint8 images, in memory. The loop takes PSNR, SSIM and LPIPS of one pair after the other, without
gradients. Ours takes these three, or all seven numbers of a report. Runs are interleaved and the medians taken, so
that what else the machine does hits all alike.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from dtls.degradations.resize import resize
from reports.metrics.lpips import load_lpips, lpips
from reports.metrics.metric import Kept, References
from reports.metrics.psnr import psnr
from reports.metrics.score import score
from reports.metrics.ssim import ssim
from tests.bench.measure import hardware, interleaved
from tests.bench.report import head, line

SIDE = 128


def photographs(count: int) -> Tensor:
    """Crops of scikit-image's photographs: uint8 (count, 3, 128, 128)."""
    sources = [torch.from_numpy(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    random = np.random.default_rng(0)
    crops = []
    for i in range(count):
        image = sources[i % len(sources)]
        top, left = (random.integers(n - SIDE) for n in image.shape[:2])
        crops.append(image[top : top + SIDE, left : left + SIDE].permute(2, 0, 1))
    return torch.stack(crops)


def loop(sr: Sequence[Tensor], hr: Tensor, model: nn.Module) -> list[tuple[float, float, float]]:
    """PSNR, SSIM and LPIPS of every pair, one by one."""
    import lpips as package

    found = []
    with torch.no_grad():
        for method in sr:
            for a, b in zip(hr, method, strict=True):
                x, y = (p.permute(1, 2, 0).numpy() for p in (a, b))
                distance = model(package.im2tensor(x), package.im2tensor(y)).item()
                similarity = structural_similarity(x, y, channel_axis=-1, data_range=255)  # type: ignore[no-untyped-call]
                found.append((peak_signal_noise_ratio(x, y, data_range=255), similarity, distance))  # type: ignore[no-untyped-call]
    return found


def three(sr: Sequence[Tensor], hr: Tensor, model: nn.Module) -> list[tuple[float, float, float]]:
    """The loop's numbers, by ours."""
    with torch.inference_mode():
        kept = Kept()
        columns = [[psnr(x, hr), ssim(x, hr), lpips(x, hr, model, kept)] for x in sr]
    return [tuple(row) for parts in columns for row in torch.stack(parts, dim=1).tolist()]


def measure(methods: int, images: int, repeats: int, model: nn.Module) -> tuple[str, ...]:
    """A row of the table: pairs a second of the loop and ours, and the ratios."""
    hr = photographs(images)
    lr = resize(hr.double(), (SIDE // 4, SIDE // 4), "antialias").round().clamp(0, 255).byte()
    noise = torch.randn(methods, *hr.shape, generator=torch.Generator().manual_seed(0)) * 8
    sr = [(hr + one).round().clamp(0, 255).byte() for one in noise]
    named = {str(i): x for i, x in enumerate(sr)}
    theirs, ours = (torch.tensor(f(sr, hr, model), dtype=torch.float64) for f in (loop, three))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    runs = (
        lambda: loop(sr, hr, model),
        lambda: three(sr, hr, model),
        lambda: score(named, References(hr, lr, "antialias", lpips=model)),
    )
    seconds = interleaved(runs, repeats, "cpu")
    rates = [methods * images / s for s in seconds]
    ratios = [f"×{rate / rates[0]:.2f}" for rate in rates[1:]]
    return (str(methods), *[f"{rate:.0f}" for rate in rates], *ratios)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--methods", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # lpips calls torchvision in a way that is deprecated
    model = load_lpips()
    sys.stdout.write(f"{hardware('cpu')}\n")
    sys.stdout.write(
        head(("methods, pairs/s", "loop", "the same three", "all seven", "three by loop", "seven by loop"))
    )
    for methods in options.methods:
        sys.stdout.write(line(measure(methods, options.images, options.repeats, model)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
