"""The contact sheet: the rows of a gallery drawn as one image."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Literal, NamedTuple

import pandas as pd
from PIL import Image, ImageDraw

from reports.figures.fonts import Face, readable
from reports.figures.gallery import (
    SHOWN,
    GalleryImage,
    GalleryItem,
    NothingToDrawError,
    best_texts,
    chosen_metrics,
)
from reports.figures.style import ALARM, EMPTY, INK, MUTED, PAPER, cut
from reports.metrics.metric import Metric
from reports.tables.summary import conditions

TALLEST = 640
"""How tall, in pixels, the contact sheet draws an image at most."""

MARGIN, GAP, LINE, TEXT = 32, 16, 24, 15
"""In pixels: around the sheet, between columns, from one line of text to the next, and the text's size."""
CONDITIONS = ["protocol", "scale", "colour", "border", "data_range", "lpips_network"]


class Piece(NamedTuple):
    """A piece of a line of text."""

    text: str
    colour: str = MUTED
    bold: bool = False


def contact_sheet(gallery: Sequence[GalleryItem], metrics: Sequence[str] = SHOWN) -> Image.Image:
    """The gallery as one RGB image on white: LR, methods and HR in columns, `metrics` under each method's image.

    At the head stand the protocol or task and the names of the metrics; above each row its key, and how much it is
    reduced. Columns are headed by the labels of the row that has most; an image stands in the column of its label,
    and a cell without one says why. LR and small images are enlarged without smoothing, large ones reduced with it;
    none is stretched. The best numbers of a row are in bold ink. NothingToDrawError for a gallery without images.
    """
    labels = _labels(gallery)
    if not labels:
        raise NothingToDrawError("a contact sheet needs at least one image")
    shown = chosen_metrics(gallery, metrics)
    head = _head(gallery, shown)
    column = max(item.column for item in gallery)
    boxes = [_box(item) for item in gallery]
    wide = len(labels) * column + (len(labels) - 1) * GAP
    high = (2 * len(head) + 1) * LINE + sum(3 * LINE + tall for _, tall in boxes)
    sheet = Image.new("RGB", (wide + 2 * MARGIN, high + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = {label: MARGIN + place * (column + GAP) for place, label in enumerate(labels)}
    top = MARGIN
    for line in head:
        _write(draw, (MARGIN, top), wide, [Piece(line)], anchor="left")
        top += 2 * LINE
    for label, left in lefts.items():
        _write(draw, (left, top), column, [Piece(label, INK, bold=True)])
    for item, box in zip(gallery, boxes, strict=True):
        top += 3 * LINE // 2
        _write(draw, (MARGIN, top), wide, _title(item, box), anchor="left")
        top += LINE
        images = {image.label: image for image in item.images}
        best = best_texts(item, shown)
        for label, left in lefts.items():
            image = images.get(label)
            _draw_cell(sheet, draw, image, (left + (column - box[0]) // 2, top), box)
            _write(draw, (left, top + box[1] + LINE - TEXT), column, _caption(image, shown, best))
        top += box[1] + LINE // 2
    return sheet


def contact_sheet_png(gallery: Sequence[GalleryItem], metrics: Sequence[str] = SHOWN) -> bytes:
    """The contact sheet as a PNG file."""
    buffer = BytesIO()
    contact_sheet(gallery, metrics).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _labels(gallery: Sequence[GalleryItem]) -> list[str]:
    rows = sorted((item.images for item in gallery), key=len, reverse=True)
    roles = {image.label: image.role for row in reversed(rows) for image in reversed(row)}
    labels = dict.fromkeys(image.label for row in rows for image in row)
    return sorted(labels, key=lambda label: {"lr": -1, "sr": 0, "hr": 1}[roles[label]])


def _head(gallery: Sequence[GalleryItem], shown: Sequence[Metric]) -> list[str]:
    """The protocol or task, and what the numbers are; nothing for images without numbers."""
    rows = [p.metrics for item in gallery for p in item.images if p.metrics is not None and not p.failed]
    if not rows:
        return []
    names = " / ".join(f"{m.label}{f' ({m.unit})' if m.unit else ''} {m.arrow}" for m in shown)
    made = conditions(pd.DataFrame(rows).reindex(columns=CONDITIONS))
    return [made, f"Under each image: {names}, the best in bold"]


def _box(item: GalleryItem) -> tuple[int, int]:
    """The width and height in pixels that the largest image of a row is drawn in."""
    width, height = item.size
    zoom = item.column / width
    if height * zoom > TALLEST:
        zoom = TALLEST / height if height > TALLEST else TALLEST // height
    return max(1, round(width * zoom)), max(1, round(height * zoom))


def _title(item: GalleryItem, box: tuple[int, int]) -> list[Piece]:
    reduced = item.size[0] / box[0]
    return [Piece(item.key, INK), *([Piece(f"   shown at 1:{reduced:.3g}")] if reduced > 1 else [])]


def _caption(image: GalleryImage | None, shown: Sequence[Metric], best: Mapping[str, str | None]) -> list[Piece]:
    """What stands under an image: its numbers, or its size, or why there is none."""
    if image is None:
        return []
    if image.metrics is None:
        return [Piece("{}×{}".format(*image.size))]
    if image.failed:
        return [Piece(str(image.metrics.get("error") or ""))]
    line = []
    for metric in shown:
        text = metric.text(image.metrics.get(metric.name))
        line += [Piece(" / "), Piece(text, INK, bold=True) if text == best[metric.name] else Piece(text)]
    return line[1:]


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    image: GalleryImage | None,
    corner: tuple[int, int],
    box: tuple[int, int],
) -> None:
    """The image in the middle of its box, or a tinted box that says why there is none."""
    left, top = corner
    if image is None or image.failed:
        draw.rectangle((left, top, left + box[0] - 1, top + box[1] - 1), EMPTY)
        why = Piece("failed", ALARM) if image is not None else Piece("no image")
        _write(draw, (left, top + (box[1] - TEXT) // 2), box[0], [why])
        return
    drawn = _drawn(image, box)
    sheet.paste(drawn, (left + (box[0] - drawn.width) // 2, top + (box[1] - drawn.height) // 2))


def _drawn(image: GalleryImage, box: tuple[int, int]) -> Image.Image:
    """The image as large as the box allows: enlarged pixel by pixel, or reduced smoothly."""
    with Image.open(BytesIO(image.png)) as opened:
        zoom = min(box[0] / opened.width, box[1] / opened.height)
        size = (max(1, round(opened.width * zoom)), max(1, round(opened.height * zoom)))
        if zoom >= 1:
            return opened.convert("RGB").resize(size, Image.Resampling.NEAREST)
        return opened.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    width: int,
    pieces: Sequence[Piece],
    anchor: Literal["left", "middle"] = "middle",
) -> None:
    """One line within `width` from `corner`; its first piece is cut where it is too long."""
    if not pieces:
        return
    faces = [Face(TEXT, bold=piece.bold) for piece in pieces]
    texts = [piece.text for piece in pieces]
    rest = sum(face.getlength(text) for text, face in zip(texts[1:], faces[1:], strict=True))
    texts[0] = cut(readable(texts[0]), faces[0], width - rest)
    x = corner[0] + (0 if anchor == "left" else (width - rest - faces[0].getlength(texts[0])) / 2)
    for piece, text, face in zip(pieces, texts, faces, strict=True):
        for part, font in face.runs(text):
            draw.text((x, corner[1] + face.lowered(font)), part, piece.colour, font)
            x += font.getlength(part)
