"""What EXIF counts in pixels, made to fit another size, or left out with a note."""

import re
from dataclasses import dataclass

from storage.images.exif import (
    HEIGHT,
    LONG,
    MAKER_NOTE,
    PHOTO_HEIGHT,
    PHOTO_WIDTH,
    RATIONAL,
    SHORT,
    WIDTH,
    X_RESOLUTION,
    Y_RESOLUTION,
    Directory,
    Exif,
    ExifEntry,
)

RELATED_WIDTH, RELATED_HEIGHT = 0x1001, 0x1002
SUBJECT = frozenset({0x9214, 0xA214})
"""A point, a circle, or a rectangle: x, y, and what it has of diameter, or width and height."""
ACROSS_PER_UNIT, DOWN_PER_UNIT = (0xA20E, 0x920E), (0xA20F, 0x920F)
"""Pixels of the sensor a unit of length."""
SIDES = {WIDTH: 0, PHOTO_WIDTH: 0, RELATED_WIDTH: 0, HEIGHT: 1, PHOTO_HEIGHT: 1, RELATED_HEIGHT: 1}
GROUND = frozenset({33550, 33922, 34264, *range(34735, 34738)})
RAW_CROP = frozenset({50717, 50718, 50719, 50720, 50780, 50829, 50830, *range(51089, 51092)})
NO_NOTE = "maker's note left out"
DESCRIPTION, STACK_DATA = 0x010E, frozenset({50838, 50839})
SHAPE = re.compile(rb'\{"shape": \[[\d, ]*\]\}\0*')
"""All that tifffile writes of its own accord."""
LAYOUT = (b"ImageJ=", b'{"', b"<?xml", b"<OME", b"Aperio ")
"""What descriptions begin with by which programs find sizes and frames in the file, which a result does not have."""
LOST = {
    301: "transfer function left out",
    37724: "Photoshop's layers left out",
    MAKER_NOTE: NO_NOTE,
}
"""What of the storage of a TIFF, or out of its place, is a loss."""
MAX_SHORT = 65535


@dataclass(frozen=True)
class Resizing:
    """From the size that an image had to the one that it gets; (width, height)."""

    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def factors(self) -> tuple[float, float]:
        """What a number of pixels across, and one of pixels down, is multiplied by."""
        return self.after[0] / self.before[0], self.after[1] / self.before[1]


def cleaned(exif: Exif, orientation: int) -> tuple[str, ...]:
    """Leave out of `exif` what no result can keep, and turn what turns with the image; notes on what is lost."""
    notes = tuple(note for tag, note in LOST.items() if tag in exif.left_out)
    if _without(exif.image, GROUND):
        notes += ("georeference left out",)
    if _describes_layout(exif):
        notes += ("description of the file's layout left out",)
    if _without(exif.image, RAW_CROP):
        notes += ("crop of the raw image left out",)
    if orientation > 1 and _without(exif.photo, SUBJECT) | _without(exif.image, SUBJECT):
        notes += ("place of the subject left out, as the image was turned",)
    if orientation >= 5:
        for directory in (exif.image, exif.photo):
            _swap(directory)
    if exif.settle() and NO_NOTE not in notes:
        notes += (NO_NOTE,)
    if exif.damaged:
        notes += ("damaged EXIF values left out",)
    return notes


def resize(exif: Exif, sizes: Resizing) -> tuple[str, ...]:
    """Fit what `exif` counts in pixels; notes on what cannot be."""
    notes: tuple[str, ...] = ()
    for directory in (exif.image, exif.photo, exif.interop):
        for tag in directory.keys() & SIDES.keys():
            directory[tag] = exif.long(sizes.after[SIDES[tag]])
        for tags, factor in zip((ACROSS_PER_UNIT, DOWN_PER_UNIT), sizes.factors, strict=True):
            for tag in directory.keys() & set(tags):
                _multiply(exif, directory, tag, factor)
        for tag in directory.keys() & SUBJECT:
            if (subject := _moved(exif, directory.pop(tag), sizes.factors)) is not None:
                directory[tag] = subject
            else:
                notes += ("place of the subject left out",)
    return notes


def _describes_layout(exif: Exif) -> bool:
    """Whether there was a description for programs that says more than a shape; any for programs is gone."""
    described = exif.image.get(DESCRIPTION)
    text = described.value.lstrip() if described else b""
    if text.startswith(LAYOUT):
        del exif.image[DESCRIPTION]
    return _without(exif.image, STACK_DATA) or (text.startswith(LAYOUT) and not SHAPE.fullmatch(text))


def _without(directory: Directory, tags: frozenset[int]) -> bool:
    """Whether there were any of `tags`, which are no longer there."""
    found = directory.keys() & tags
    for tag in found:
        del directory[tag]
    return bool(found)


def _swap(directory: Directory) -> None:
    """Exchange what is counted across with what is counted down."""
    for across, down in ((X_RESOLUTION, Y_RESOLUTION), *zip(ACROSS_PER_UNIT, DOWN_PER_UNIT, strict=True)):
        both = directory.pop(across, None), directory.pop(down, None)
        for tag, entry in zip((down, across), both, strict=True):
            if entry is not None:
                directory[tag] = entry


def _multiply(exif: Exif, directory: Directory, tag: int, factor: float) -> None:
    entry = directory.pop(tag)
    value = exif.rational(entry) if entry.kind == RATIONAL else exif.number(entry)
    if value and value * factor < 2**32:
        directory[tag] = exif.fraction(value * factor)


def _moved(exif: Exif, entry: ExifEntry, factors: tuple[float, float]) -> ExifEntry | None:
    """A subject's place in the result; None where it is none, or cannot be written."""
    numbers = exif.numbers(entry, most=4)
    if len(numbers) not in (2, 3, 4) or entry.kind not in (SHORT, LONG):
        return None
    moved = [round(number * factors[place % 2]) for place, number in enumerate(numbers)]
    return None if max(moved) > MAX_SHORT else exif.short(*moved)
