"""`dtls demo`: the whole pipeline on real photographs, on a laptop: upscale, shard, train, compare.

The photographs are the ones scikit-image ships. A 128×128 crop of each is held out; the model that comes with dtls
enlarges them, and once more after it has trained on the columns left and right of them for a minute.
"""

from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from flows.downscale import DownscaleOptions, downscale
from flows.engine.flow import flow
from flows.inputs.sources import absolute
from flows.interface.options import RESULTS, Address, Options, Panels
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.options import TrainOptions
from flows.upscale import UpscaleOptions, upscale
from storage.images.decode import encode_png
from storage.receipts.lease import hold
from storage.stores.location import Location

SIDE, MODEL = 128, "photo-x4"
HELD_OUT = {
    "astronaut.png": (168, 32),
    "chelsea.png": (126, 70),
    "coffee.png": (260, 110),
    "hubble_deep_field.jpg": (420, 430),
    "ihc.png": (200, 200),
    "motorcycle_left.png": (230, 230),
    "retina.jpg": (220, 560),
    "rocket.jpg": (250, 150),
}
"""Left and top of the crop of each photograph that the model never sees."""


class DemoOptions(Options):
    """Where the demo leaves its files, and how long it trains."""

    panels: ClassVar[Panels] = {
        RESULTS: "out",
    }

    out: Address = Field("demo-output", description="folder or URL for photographs, shards, model and report")
    steps: int = Field(300, ge=1, description="number of training steps; 300 take about a minute on two cores")


@flow("demo")
def demo(options: DemoOptions) -> str:
    """Run the whole pipeline on scikit-image's photographs."""
    out = Location.of(absolute(options.out))
    with hold(out, "demo"):
        return _made(out, options.steps)


def _made(out: Location, steps: int) -> str:
    """Make all that is missing; the address of the report's page."""
    hr, lr, bicubic, bundled, tuned = (out.address(name) for name in ("hr", "lr", "bicubic", MODEL, "tuned"))
    _photographs(out)
    downscale(DownscaleOptions(source=hr, target=lr, scale=4, protocol="antialias"))
    upscale(UpscaleOptions(source=lr, target=bicubic, method="bicubic", scale=4))
    upscale(UpscaleOptions(source=lr, target=bundled, scale=4, overwrite=True))
    shard(ShardOptions(source=out.address("photographs"), target=out.address("shards"), samples_per_shard=8))
    train(
        TrainOptions(
            source=out.address("shards"),
            target=out.address("model"),
            method="edsr",
            start=MODEL,
            steps=steps,
            size=96,
            learning_rate=1e-4,
            resume=True,
        )
    )
    upscale(UpscaleOptions(source=lr, target=tuned, checkpoint=out.address("model"), scale=4, overwrite=True))
    results = {"bicubic": bicubic, MODEL: bundled, "tuned": tuned}
    return report(ReportOptions(hr=hr, lr=lr, sr=results, out=out.address("report"), title="Photographs, ×4"))


def _photographs(where: Location) -> None:
    """Cut scikit-image's photographs into the crops held out (`hr`) and the rest (`photographs`)."""
    for name, (left, top) in HELD_OUT.items():
        with (files("skimage") / "data" / name).open("rb") as stream, Image.open(stream) as file:
            photograph = file.convert("RGB")
        stem = Path(name).stem
        boxes = {
            f"hr/{stem}": (left, top, left + SIDE, top + SIDE),
            f"photographs/{stem}-left": (0, 0, left, photograph.height),
            f"photographs/{stem}-right": (left + SIDE, 0, photograph.width, photograph.height),
        }
        for key, box in boxes.items():
            if not where.exists(f"{key}.png"):
                where.write(f"{key}.png", encode_png(np.asarray(photograph.crop(box))))
