"""A maker's note keeps the place that its offsets count from; what EXIF counts in pixels fits the result."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from storage.images.encode import Encoding
from storage.images.exif import FARTHEST, MAKER_NOTE, Exif, ExifEntry
from storage.images.metadata import Carried, read
from storage.images.photo import Photo, open_photo
from tests.storage.images.test_encode import STAMP, photograph
from tests.storage.images.test_photo import with_chunks
from tests.storage.programs import seen_by_exiftool, seen_by_vips

ORDERS = ["<", ">"]
LENS = b"EF50mm f/1.8 of a test\0"
SUFFIXES = (".png", ".jpg", ".webp", ".tif")


def canon(order: str, at: int, size: int = 0) -> bytes:
    """A maker's note as Canon's, whose one text stands at a place that is counted from the beginning of all EXIF."""
    table = struct.pack(order + "HHHII", 1, 0x0095, 2, len(LENS), at + 2 + 12 + 4) + bytes(4)
    return (table + LENS).ljust(size, b"\0")


def with_note(order: str, at: int, note: bytes, *more: tuple[int, bytes]) -> bytes:
    """EXIF by hand: its directories, then the note at its place."""
    texts = ((0x010F, b"Canon\0"), *more)
    first = [(tag, 2, len(text), text) for tag, text in texts]
    size = 2 + 12 * (len(first) + 1) + 4 + sum(len(text) for *_, text in first)
    photo = struct.pack(order + "HHHII", 1, MAKER_NOTE, 7, len(note), at) + bytes(4)
    before = 8 if at >= 8 + size + len(photo) else at + len(note)
    table, behind = struct.pack(order + "H", len(first) + 1), b""
    for tag, kind, count, text in first:
        table += struct.pack(order + "HHII", tag, kind, count, before + 2 + 12 * (len(first) + 1) + 4 + len(behind))
        behind += text
    table += struct.pack(order + "HHII", 0x8769, 4, 1, before + size) + bytes(4)
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", before)
    block = block.ljust(before, b"\0") + table + behind + photo
    return block.ljust(at, b"\0")[:at] + note + block[at + len(note) :]


def note_in(block: bytes) -> tuple[int | None, bytes]:
    exif = Exif.parse(block)
    return exif.note_at, exif.photo[MAKER_NOTE].value


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("at", [8, 26, 90, 150, 1000, 60_001])
@pytest.mark.parametrize("stamp", [None, STAMP, "a long stamp " * 40])
def test_a_maker_s_note_keeps_its_place(at: int, order: str, stamp: str | None) -> None:
    note = canon(order, at)
    block = with_note(order, at, note, (0x8298, b"Jane Doe\0"))
    assert note_in(block) == (at, note)
    carried = read(b"", {"exif": block}).carried
    result = carried.into(40, 30, stamp)
    assert result.exif is not None
    assert note_in(result.exif) == (at, note)
    assert result.exif[at : at + len(note)] == note
    parsed = Exif.parse(result.exif)
    assert parsed.image[0x8298].value == b"Jane Doe\0"
    assert (carried.notes, result.notes, parsed.damaged) == ((), (), 0)


def test_a_note_in_another_directory_is_left_out_and_harms_nothing() -> None:
    note = canon("<", 200, 50)
    exif = Exif.parse(with_note("<", 200, note))
    exif.image[MAKER_NOTE] = exif.gps[MAKER_NOTE] = ExifEntry(7, 60, b"x" * 60)
    carried = read(b"", {"exif": exif.tobytes()}).carried
    assert carried.exif is not None
    again = Exif.parse(carried.exif)
    assert (again.note_at, again.photo[MAKER_NOTE].value) == (200, note)
    assert MAKER_NOTE not in again.image | again.gps
    assert carried.notes == ("maker's note left out",)


def test_a_note_stands_between_all_directories() -> None:
    for at in range(8, 400, 13):
        note = canon("<", at, 50)
        exif = Exif.parse(with_note("<", at, note, (0x8298, b"Jane Doe\0")))
        exif.gps = {1: ExifEntry(2, 2, b"N\0"), 2: ExifEntry(5, 3, bytes(24))}
        exif.interop = {1: ExifEntry(2, 4, b"R98\0"), 2: ExifEntry(7, 30, bytes(30))}
        again = Exif.parse(exif.tobytes())
        assert (again, exif.tobytes()[at : at + 50]) == (exif, note)


@pytest.mark.parametrize("order", ORDERS)
def test_a_note_too_far_back_is_left_out_with_a_note_unless_it_counts_from_itself(order: str) -> None:
    at = FARTHEST + 2
    block = with_note(order, at, canon(order, at))
    carried = read(b"", {"exif": block}).carried
    assert carried.notes == ("maker's note left out",)
    assert MAKER_NOTE not in Exif.parse(carried.exif or b"").photo
    own = b"Nikon\0\x02\x10\0\0MM\0*" + bytes(40)
    moved = read(b"", {"exif": with_note(order, at, own)}).carried
    assert moved.notes == ()
    assert Exif.parse(moved.exif or b"").photo[MAKER_NOTE].value == own
    assert len(moved.exif or b"") < 400


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("order", "at"), [("<", 8), (">", 5000)])
def test_exiftool_reads_the_note_in_every_format(at: int, order: str, suffix: str, tmp_path: Path) -> None:
    block = with_note(order, at, canon(order, at))
    path = tmp_path / f"a{suffix}"
    encoded = Encoding().encode(photograph(exif=block), suffix, STAMP)
    path.write_bytes(encoded.data)
    tags = seen_by_exiftool(path)
    assert tags["Canon:LensModel"] == LENS[:-1].decode()
    assert encoded.notes == ()
    assert note_in(open_photo(encoded.data).carried.exif or b"")[0] == at


@pytest.mark.parametrize(("size", "channels"), [((30, 40), 1), ((900, 700), 3)])
def test_the_strips_of_a_tiff_stand_behind_a_note_unharmed(
    size: tuple[int, int], channels: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(65536, size=(*size, channels)).astype(np.uint16)
    image = Photo(pixels, None, Carried(exif=with_note("<", 3000, canon("<", 3000))), "PNG", ())
    path = tmp_path / "a.tif"
    path.write_bytes(Encoding().encode(image, ".tif", STAMP).data)
    np.testing.assert_array_equal(seen_by_vips(path, channels, 16), pixels)
    np.testing.assert_array_equal(open_photo(path.read_bytes()).pixels, pixels)


def test_a_note_that_makes_exif_too_large_for_a_jpeg_goes_alone() -> None:
    block = with_note("<", 8, canon("<", 8, 65_000), (0x8298, b"Jane Doe" * 200 + b"\0"))
    encoded = Encoding().encode(photograph(exif=block), ".jpg", STAMP)
    assert encoded.notes == ("maker's note left out, as JPEG holds 65,527 bytes of EXIF",)
    kept = Exif.parse(open_photo(encoded.data).carried.exif or b"")
    assert 0x8298 in kept.image
    assert MAKER_NOTE not in kept.photo


def test_a_tiff_s_note_keeps_its_place_in_a_jpeg() -> None:
    block = with_note("<", 500, canon("<", 500))
    tiff = Encoding().encode(photograph(exif=block), ".tif", None).data
    jpeg = Encoding().encode(open_photo(tiff), ".jpg", None).data
    assert note_in(open_photo(jpeg).carried.exif or b"") == (500, canon("<", 500))


def carried(size: tuple[int, int] = (20, 10), orientation: int = 1, **entries: Any) -> Carried:
    exif = Exif(image={0x0112: ExifEntry(3, 1, struct.pack("<H", orientation))})
    for directory, found in entries.items():
        getattr(exif, directory).update(found)
    found = read(b"", {"exif": exif.tobytes()}).carried
    return Carried(exif=found.exif, size=size, notes=found.notes)


def shorts(*values: int) -> ExifEntry:
    return ExifEntry(3, len(values), struct.pack(f"<{len(values)}H", *values))


def fraction(value: int) -> ExifEntry:
    return ExifEntry(5, 1, struct.pack("<II", value, 1))


def test_what_exif_counts_in_pixels_fits_the_result() -> None:
    found = carried(
        image={0x0100: shorts(20), 0x0101: shorts(10)},
        photo={
            0x9214: shorts(10, 5, 4, 2),
            0xA214: shorts(3, 4),
            0xA20E: fraction(2000),
            0xA20F: fraction(1000),
            0xA002: shorts(20),
        },
        interop={0x1001: shorts(20), 0x1002: shorts(10)},
    ).into(40, 30, None)
    exif = Exif.parse(found.exif or b"")
    assert exif.numbers(exif.photo[0x9214], most=9) == (20, 15, 8, 6)
    assert exif.numbers(exif.photo[0xA214], most=9) == (6, 12)
    assert (exif.rational(exif.photo[0xA20E]), exif.rational(exif.photo[0xA20F])) == (4000, 3000)
    assert [exif.number(exif.interop[tag]) for tag in (0x1001, 0x1002)] == [40, 30]
    assert [exif.number(exif.image[tag]) for tag in (0x0100, 0x0101)] == [40, 30]
    assert exif.number(exif.photo[0xA002]) == 40
    assert found.notes == ()


@pytest.mark.parametrize("subject", [shorts(10, 5, 4, 2), ExifEntry(7, 4, b"what"), shorts(1)])
def test_a_subject_s_place_that_cannot_be_written_is_left_out_with_a_note(subject: ExifEntry) -> None:
    found = carried(photo={0x9214: subject, 0x9003: ExifEntry(2, 2, b"2\0")}).into(200_000, 100_000, None)
    assert found.notes == ("place of the subject left out",)
    assert set(Exif.parse(found.exif or b"").photo) == {0x9003}


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_subject_s_place_is_left_out_of_an_image_that_is_turned(orientation: int) -> None:
    found = carried(orientation=orientation, photo={0x9214: shorts(10, 5), 0xA20E: fraction(2), 0xA20F: fraction(3)})
    assert found.notes == (("place of the subject left out, as the image was turned",) if orientation > 1 else ())
    exif = Exif.parse(found.exif or b"")
    assert exif.rational(exif.photo[0xA20E]) == (3 if orientation == 6 else 2)


def test_what_describes_the_raw_image_or_the_ground_is_left_out_with_a_note() -> None:
    longs = ExifEntry(4, 2, struct.pack("<II", 20, 10))
    doubles = ExifEntry(12, 3, struct.pack("<3d", 1, 1, 0))
    found = carried(image={50720: longs, 33550: doubles, 34735: shorts(1, 1, 0, 0), 0x0110: ExifEntry(2, 2, b"E\0")})
    assert found.notes == ("georeference left out", "crop of the raw image left out")
    assert set(Exif.parse(found.exif or b"").image) == {0x0110}


def test_the_ground_and_layers_of_a_tiff_are_noted_as_left_out() -> None:
    buffer = io.BytesIO()
    tags = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (37724, 7, 4, b"8BPS", True), (301, 3, 3, (1, 2, 3), True)]
    tifffile.imwrite(buffer, np.zeros((8, 8), np.uint8), photometric="minisblack", metadata=None, extratags=tags)
    assert open_photo(buffer.getvalue()).notes == (
        "transfer function left out",
        "Photoshop's layers left out",
        "georeference left out",
    )


@pytest.mark.parametrize(
    ("written", "notes"),
    [
        ({}, ()),
        ({"ome": True}, ("description of the file's layout left out",)),
        ({"imagej": True}, ("description of the file's layout left out",)),
        ({"description": "shape of a cup", "metadata": None}, ()),
    ],
)
def test_a_description_of_the_file_s_layout_is_not_that_of_the_result(
    written: dict[str, Any], notes: tuple[str, ...], tmp_path: Path
) -> None:
    stored = io.BytesIO()
    tifffile.imwrite(stored, np.zeros((20, 30), np.uint16), photometric="minisblack", **written)
    carried = open_photo(stored.getvalue()).carried
    assert read(stored.getvalue(), {}).carried.notes == notes
    described = Exif.parse(carried.exif or b"").image.get(0x010E)
    assert (described is not None) == ("description" in written)


def test_the_depth_of_a_volume_is_not_that_of_a_result() -> None:
    stored = io.BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "volumetric": True, "tile": (16, 32, 32)}
    tifffile.imwrite(stored, np.zeros((2, 20, 30), np.uint16), **options)
    exif = Exif.parse(stored.getvalue())
    assert not exif.image.keys() & {32997, 32998}


def test_texts_in_the_type_of_newer_exif_are_kept() -> None:
    text = ExifEntry(129, 5, "Jó\0".encode() + b"\0")
    found = carried(image={0x013B: text._replace(values=len(text.value))}).into(40, 20, None)
    assert Exif.parse(found.exif or b"").image[0x013B].value == text.value


def test_damaged_values_are_counted() -> None:
    block = b"II*\0" + struct.pack("<IHHHIIHHI4sI", 8, 2, 0x010E, 2, 100, 9999, 0x0110, 2, 2, b"E", 0)
    found = read(b"", {"exif": block}).carried
    assert found.notes == ("damaged EXIF values left out",)
    assert set(Exif.parse(found.exif or b"").image) == {0x0110}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_the_shape_of_a_pixel_goes_along(kind: str, suffix: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    data = buffer.getvalue()
    if kind == "PNG":
        data = with_chunks(data, (b"pHYs", struct.pack(">IIB", 4, 2, 0)))
    elif kind == "JPEG":
        data = data[:13] + struct.pack(">BHH", 0, 2, 1) + data[18:]
    elif kind == "GIF":
        data = data[:12] + bytes([17]) + data[13:]
    else:
        buffer = io.BytesIO()
        pixels = np.zeros((8, 8, 3), np.uint8)
        tifffile.imwrite(buffer, pixels, photometric="rgb", metadata=None, resolution=(2, 1), resolutionunit="none")
        data = buffer.getvalue()
    found = open_photo(data)
    assert (found.carried.aspect, found.carried.dpi) == ((2, 1), None)
    encoded = Encoding().encode(found, suffix, None)
    assert len(encoded.notes) == (suffix == ".webp")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded.data)
    tags = seen_by_exiftool(path)
    where = {".png": "PNG-pHYs:PixelsPerUnit{}", ".jpg": "JFIF:{}Resolution", ".tif": "IFD0:{}Resolution"}
    if suffix in where:
        assert [tags[where[suffix].format(axis)] for axis in "XY"] == [2, 1]
        assert open_photo(encoded.data).carried.aspect == (2, 1)


def test_the_shape_of_a_pixel_turns_with_the_image() -> None:
    buffer = io.BytesIO()
    turned = [(0x0112, 3, 1, 6, True)]
    shape: dict[str, Any] = {"resolution": (2, 1), "resolutionunit": "none", "extratags": turned}
    tifffile.imwrite(buffer, np.zeros((4, 8, 3), np.uint8), photometric="rgb", metadata=None, **shape)
    found = open_photo(buffer.getvalue())
    assert (found.pixels.shape, found.carried.aspect) == ((8, 4, 3), (1, 2))
