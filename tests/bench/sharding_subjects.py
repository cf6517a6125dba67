"""What the benchmark of sharding works on, and who works on it: images, and each way to make archives of them."""

import hashlib
import io
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import skimage
import webdataset
from PIL import Image

from flows.shard import ShardOptions, shard
from tests.bench.measure import seconds
from tests.services import S3Server

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")
A_FOLDER = 1000
PART = 8 * 2**20
AT_ONCE = 10

RESIZING = """
import os, sys, time
os.sched_setaffinity(0, map(int, sys.argv[1].split(",")))
from flows.shard import ShardOptions, shard
for target in sys.argv[3:]:
    started = time.perf_counter()
    shard.fn(ShardOptions(source=sys.argv[2], target=target, size=128, max_failed=0))
print(time.perf_counter() - started)
"""
LISTING = """
import sys
from storage.stores.location import Location
Location.of(sys.argv[1]).list()
"""
PLANNING = """
import sys
from flows.engine import run as fanout
from flows.shard import ShardOptions, shard
def plan(job, options):
    job.receipts.begin(job.units, job.receipts.survey(job.units))
fanout.run = plan
shard.fn(ShardOptions(source=sys.argv[1], target=sys.argv[2]))
"""
PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""
"""A small process between us and what is measured: a process's peak starts at the size of the one that starts it."""


@dataclass(frozen=True)
class Kind:
    """Images of one sort: crops of photographs, each another; square, unless they have a height of their own."""

    side: int
    suffix: str
    save: dict[str, Any]
    height: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.side, self.height or self.side

    @property
    def name(self) -> str:
        shape = f"{self.side}x{self.height}" if self.height else f"{self.side}"
        return f"{shape}-{self.suffix}"


SMALL = Kind(128, "jpg", {"quality": 86})
PHOTOGRAPH = Kind(512, "jpg", {"quality": 92})
LARGE = {
    "png": Kind(1024, "png", {"compress_level": 1}),
    "jpg": Kind(1280, "jpg", {"quality": 100, "subsampling": 0}),
}


def make_images(folder: Path, count: int, kind: Kind) -> Path:
    """`count` images below `folder`, 1000 a folder as in FFHQ; those of an earlier run are taken again."""

    def save(number: int, path: Path) -> None:
        _crop(random.Random(number), *kind.size).save(path, **kind.save)

    return _once(folder / f"{kind.name}-{count}", count, kind.suffix, save)


def make_links(folder: Path, count: int, kind: Kind = SMALL, few: int = 200) -> Path:
    """`count` images that share the bytes of a `few`."""
    files = files_of(make_images(folder, min(count, few), kind))
    name = f"{kind.name}-links-{count}"
    return _once(folder / name, count, kind.suffix, lambda n, path: path.hardlink_to(files[n % len(files)]))


def _once(folder: Path, count: int, suffix: str, make: Callable[[int, Path], None]) -> Path:
    if not folder.exists():
        partial_folder = folder.with_suffix(".partial")
        shutil.rmtree(partial_folder, ignore_errors=True)
        for number in range(count):
            path = partial_folder / f"{number - number % A_FOLDER:05}" / f"{number:05}.{suffix}"
            if number % A_FOLDER == 0:
                path.parent.mkdir(parents=True)
            make(number, path)
        partial_folder.rename(folder)
    return folder


def _crop(chance: random.Random, width: int, height: int) -> Image.Image:
    photograph = chance.choice(_photographs())
    most = min(512, *photograph.size)
    size = chance.randint(most // 2, most)
    x, y = chance.randint(0, photograph.width - size), chance.randint(0, photograph.height - size)
    box = (x, y, x + size, y + size * height // width)
    return photograph.resize((width, height), Image.Resampling.BICUBIC, box)


@cache
def _photographs() -> list[Image.Image]:
    folder = Path(skimage.__file__).parent / "data"
    return [Image.open(folder / name).convert("RGB") for name in PHOTOGRAPHS]


def files_of(source: Path) -> list[Path]:
    """The images that `make_images` or `make_links` made; their folders have no suffix."""
    return sorted(source.rglob("*.*"))


def ours(source: Path, target: Path | str, samples_per_shard: int = 1000) -> float:
    options = ShardOptions(source=str(source), target=str(target), samples_per_shard=samples_per_shard, max_failed=0)
    with redirect_stderr(io.StringIO()):
        return seconds(lambda: shard.fn(options), "cpu")


def webdataset_loop(source: Path, target: Path) -> float:
    target.mkdir()
    started = time.perf_counter()
    with webdataset.ShardWriter(str(target / "shard-%06d.tar"), maxcount=1000, verbose=0) as writer:
        for number, path in enumerate(files_of(source)):
            facts = {"key": str(path.relative_to(source)), "width": 0, "height": 0}
            writer.write({"__key__": f"{number:09d}", path.suffix[1:]: path.read_bytes(), "json": facts})
    return time.perf_counter() - started


def gnu_tar(source: Path, target: Path) -> float:
    target.mkdir()
    command = ["tar", "-cf", str(target / "all.tar"), "-C", str(source), "."]
    return seconds(partial(subprocess.run, command, check=True), "cpu")


def resized(source: Path, cores: Sequence[int], target: Path) -> float:
    """Ours with resize to 128 in a process of its own that has these cores, the second time it does it."""
    targets = [str(target / name) for name in ("warm-up", "timed")]
    done = python("-c", RESIZING, ",".join(map(str, cores)), str(source), *targets)
    return float(done)


def aws_client(server: S3Server, tars: Sequence[Path], target: Path) -> float:
    return seconds(partial(_upload, server.client(), server.bucket, target.name, tars), "cpu")


def _upload(client: Any, bucket: str, prefix: str, tars: Sequence[Path]) -> None:
    places = [{"Bucket": bucket, "Key": f"{prefix}/{tar.name}"} for tar in tars]
    uploads = [place | {"UploadId": client.create_multipart_upload(**place)["UploadId"]} for place in places]

    def put(tar: Path, upload: dict[str, str], number: int) -> dict[str, Any]:
        with tar.open("rb") as file:
            file.seek((number - 1) * PART)
            answer = client.upload_part(**upload, PartNumber=number, Body=file.read(PART))
        return {name: answer[name] for name in ("ETag", "ChecksumCRC32") if name in answer} | {"PartNumber": number}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [
            [pool.submit(put, tar, upload, n + 1) for n in range(-(-tar.stat().st_size // PART))]
            for tar, upload in zip(tars, uploads, strict=True)
        ]
    for upload, parts in zip(uploads, waiting, strict=True):
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part.result() for part in parts]})


def two_threads() -> float:
    """How much faster two threads are than one, in what nothing but the cores limits."""
    data = bytes(50_000_000)

    def hashed(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            return seconds(lambda: list(pool.map(hashlib.sha256, [data] * 8)), "cpu")

    return hashed(1) / hashed(2)


def peak_megabytes(*arguments: str) -> float:
    """The peak of the largest process of Python with these arguments, in MB."""
    printed = python("-I", "-S", "-c", PEAK, sys.executable, *arguments)
    return int(printed) * (1 if sys.platform == "darwin" else 1024) / 1e6


def python(*arguments: str) -> str:
    """What Python prints with these arguments, run in the repository's root; RuntimeError where it fails."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split())[-500:])
    return done.stdout
