"""Weights of ncnn's models, a .param and a .bin, under the names by which spandrel finds the same network.

Two kinds are plain enough for it: Real-ESRGAN's compact ones, and those of RRDB blocks at scale 4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAGIC = "7767517"
HALF = 0x01306B47
"""The tag before weights of 16 bits; 0 stands before those of 32."""
NEAREST = 1
A_BLOCK = [f"rdb{dense}.conv{conv}" for dense in (1, 2, 3) for conv in (1, 2, 3, 4, 5)]
AFTER_BLOCKS = ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]


@dataclass(frozen=True)
class Layer:
    """A line of a .param: what the layer is, and its numbers by their keys."""

    kind: str
    numbers: dict[int, float]

    def whole(self, key: int, default: int = 0) -> int:
        return int(self.numbers.get(key, default))


def state_dict(param: Path, weights: Path) -> dict[str, Tensor]:
    """The weights as float32 under the names of Real-ESRGAN's own checkpoints.

    ValueError for a model of another kind, or weights that do not fit it.
    """
    layers = _layers(param)
    if any(layer.kind == "Interp" and layer.whole(0) != NEAREST for layer in layers):
        raise ValueError(f"{param}: resizes by more than nearest neighbours, which no architecture of spandrel does")
    trained = [layer for layer in layers if layer.kind in ("Convolution", "PReLU")]
    reader = _Reader(weights.read_bytes())
    found = {
        f"{name}.{kind}": torch.from_numpy(values)
        for name, layer in zip(_names(param, trained), trained, strict=True)
        for kind, values in reader.tensors(layer)
    }
    if reader.at != len(reader.content):
        raise ValueError(f"{weights}: {len(reader.content) - reader.at:,} bytes more than the model has weights")
    return found


def _layers(param: Path) -> list[Layer]:
    magic, _, *lines = param.read_text().splitlines()
    if magic != MAGIC:
        raise ValueError(f"{param}: not a .param of ncnn")
    return [_layer(line.split()) for line in lines]


def _layer(words: Sequence[str]) -> Layer:
    """kind, name, numbers of inputs and outputs, their names, then key=value; a value may be an array, not wanted."""
    values = words[4 + int(words[2]) + int(words[3]) :]
    pairs = [word.split("=") for word in values if "," not in word]
    return Layer(words[0], {int(key): float(value) for key, value in pairs})


def _names(param: Path, trained: Sequence[Layer]) -> list[str]:
    if any(layer.kind == "PReLU" for layer in trained):
        return [f"body.{n}" for n in range(len(trained))]
    blocks, rest = divmod(len(trained) - 1 - len(AFTER_BLOCKS), len(A_BLOCK))
    if blocks < 1 or rest:
        raise ValueError(f"{param}: neither a compact model nor one of RRDB blocks")
    return ["conv_first", *(f"body.{block}.{name}" for block in range(blocks) for name in A_BLOCK), *AFTER_BLOCKS]


class _Reader:
    """Reads a .bin from its front."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def tensors(self, layer: Layer) -> Iterator[tuple[str, NDArray[np.float32]]]:
        outputs = layer.whole(0)
        if layer.kind == "PReLU":
            yield "weight", self._numbers(outputs, "<f4")
            return
        width = layer.whole(1)
        height = layer.whole(11, width)
        tag = int(self._numbers(1, "<u4").view(np.uint32)[0])
        if tag not in (0, HALF):
            raise ValueError(f"weights are packed as {tag:#x}; known are float32 and float16")
        weights = self._numbers(layer.whole(6), "<f2" if tag == HALF else "<f4")
        yield "weight", weights.reshape(outputs, -1, height, width)
        if layer.whole(5):
            yield "bias", self._numbers(outputs, "<f4")

    def _numbers(self, count: int, dtype: str) -> NDArray[np.float32]:
        """The next `count` numbers; each run of them is filled up to a multiple of four bytes."""
        size = count * np.dtype(dtype).itemsize
        if self.at + size > len(self.content):
            raise ValueError("the .bin ends before the model has all its weights")
        numbers = np.frombuffer(self.content, dtype, count, self.at)
        self.at += size + -size % 4
        return numbers.astype(np.float32) if dtype != "<u4" else numbers.view(np.float32)
