"""Decoding and encoding alone, on all cores: what is left of upscaling by `nearest` when all else takes no time."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from storage.images.encode import Encoding
from storage.images.photo import open_photo

TWICE = 2
FEW = 16
"""Different images among the files, in turn; the others are links to them."""


@contextmanager
def codecs(files: Sequence[Path], *, processes: bool) -> Iterator[Executor]:
    """Threads, or processes, a core each, that have all that `recoding` needs."""
    cores, alike = os.cpu_count() or 1, files[:FEW]
    make_enlarged(alike)
    if processes:
        with ProcessPoolExecutor(cores, get_context("spawn"), make_enlarged, (alike,)) as pool:
            list(pool.map(_length, alike, alike))
            yield pool
    else:
        with ThreadPoolExecutor(cores) as pool:
            yield pool


def recoding(files: Sequence[Path], pool: Executor) -> float:
    """Reading, decoding, and encoding twice as large, alone: no resize, no writing."""
    alike = [files[n % FEW] for n in range(len(files))]
    started = time.perf_counter()
    list(pool.map(_length, files, alike, chunksize=4))
    return time.perf_counter() - started


def recoded(path: Path, alike: Path) -> bytes:
    """The result of one file; its pixels were made before, of a file with the same ones."""
    photograph = open_photo(path.read_bytes())
    return Encoding().encode(replace(photograph, pixels=_enlarged(alike)), ".png", None).data


def make_enlarged(files: Sequence[Path]) -> None:
    for path in files:
        _enlarged(path)


@cache
def _enlarged(path: Path) -> NDArray[Any]:
    return open_photo(path.read_bytes()).pixels.repeat(TWICE, axis=0).repeat(TWICE, axis=1)


def _length(path: Path, alike: Path) -> int:
    return len(recoded(path, alike))
