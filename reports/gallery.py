"""Pictures side by side: what the page and the contact sheet both show, and the contact sheet itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from reports.tables import METRICS

COLUMN = 256
"""How wide, in pixels, a picture is drawn at most; small ones are enlarged by whole numbers up to it."""
LARGE_COLUMN = 320

INK, MUTED, PAPER = "#1d1d1b", "#75746e", "#ffffff"
MARGIN, GAP, LABEL = 32, 16, 17

_PLAIN = str.maketrans({"×": "x", "∞": "inf", "–": "-", "…": "..."})
"""Pillow's own font has no more than ASCII."""


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery row: its label (LR, a method, HR), PNG bytes, and its row of the metrics table."""

    label: str
    png: bytes
    metrics: Mapping[str, Any] | None = None

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        with Image.open(BytesIO(self.png)) as image:
            return image.size


@dataclass(frozen=True)
class GalleryItem:
    """One row of a gallery: the pictures of one key in the order they are shown, LR first and HR last."""

    key: str
    pictures: Sequence[Picture] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the largest picture, normally HR."""
        return max((p.size for p in self.pictures), default=(1, 1))

    @property
    def column(self) -> int:
        """How wide, in pixels, each picture of this row is drawn."""
        width = self.size[0]
        return width * (COLUMN // width) if width <= COLUMN else min(width, LARGE_COLUMN)


def contact_sheet(gallery: Sequence[GalleryItem]) -> Image.Image:
    """The gallery as one RGB picture on white: LR, methods and HR in columns, PSNR (dB) under each method's picture.

    Columns are headed by the labels of the row that has most; a picture stands in the column of its label. LR and
    small pictures are enlarged without smoothing. ValueError for a gallery without pictures.
    """
    labels = _labels(gallery)
    if not labels:
        raise ValueError("a contact sheet wants at least one picture")
    column = max(item.column for item in gallery)
    heights = [round(item.column * item.size[1] / item.size[0]) for item in gallery]
    caption = 2 * LABEL
    width = 2 * MARGIN + len(labels) * column + (len(labels) - 1) * GAP
    height = 2 * MARGIN + caption + sum(heights) + len(heights) * caption + (len(heights) - 1) * GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, label in enumerate(labels):
        _write(draw, MARGIN + place * (column + GAP), MARGIN, column, label, INK)
    top = MARGIN + caption
    for item, tall in zip(gallery, heights, strict=True):
        best = _best_psnr(item)
        for picture in item.pictures:
            left = MARGIN + labels.index(picture.label) * (column + GAP)
            sheet.paste(_drawn(picture, (item.column, tall)), (left + (column - item.column) // 2, top))
            text = _psnr(picture) if picture.metrics else "{}×{}".format(*picture.size)
            _write(draw, left, top + tall + 8, column, text, INK if text == best else MUTED)
        top += tall + caption + GAP
    return sheet


def _labels(gallery: Sequence[GalleryItem]) -> list[str]:
    rows = sorted(([p.label for p in item.pictures] for item in gallery), key=len, reverse=True)
    return list(dict.fromkeys(label for row in rows for label in row))


def _psnr(picture: Picture) -> str:
    metric = METRICS[0]
    return f"{metric.text((picture.metrics or {}).get(metric.name))} {metric.unit}"


def _best_psnr(item: GalleryItem) -> str:
    scored = [p.metrics.get(METRICS[0].name) for p in item.pictures if p.metrics]
    return f"{METRICS[0].best(scored)} {METRICS[0].unit}"


def _drawn(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """The picture at `size`: enlarged pixel by pixel, or reduced smoothly."""
    with Image.open(BytesIO(picture.png)) as image:
        how = Image.Resampling.NEAREST if image.width <= size[0] else Image.Resampling.LANCZOS
        return image.convert("RGB").resize(size, how)


def _write(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, text: str, colour: str) -> None:
    """`text` centred on a column, cut where it is wider."""
    font = ImageFont.load_default(LABEL)
    text = text.translate(_PLAIN).encode("ascii", "replace").decode()
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "...", font) > width:
            text = text[:-1]
        text += "..."
    draw.text((left + width / 2, top), text, colour, font, anchor="ma")
