"""What images carry is kept byte by byte, fitted to another size, and never stops an image when it is damaged."""

import struct
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.images.exif import ASCII, LARGEST, PROCESSING_SOFTWARE, SOFTWARE, Exif, ExifEntry
from storage.images.metadata import Carried, fitting, read

RDF = b"<rdf:RDF><rdf:Description %s>%s</rdf:Description></rdf:RDF>"
ORDERS = ["<", ">"]


def block(order: str, entries: list[tuple[int, int, int, bytes]], following: int = 0) -> bytes:
    """EXIF of one directory, made by hand: tag, type, count, and four bytes of value or place."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    table = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(order + "IH", 8, len(entries)) + table + struct.pack(order + "I", following)


def carried(exif: bytes = b"", xmp: bytes | None = None, **info: Any) -> Carried:
    everything: dict[str | tuple[int, int], Any] = {"exif": exif, "xmp": xmp}
    everything.update(info)
    return read(b"", everything)[0]


def parsed(found: Carried) -> Exif:
    return Exif.parse(found.exif or b"")


@pytest.mark.parametrize("order", ORDERS)
def test_values_keep_their_own_bytes_and_types(order: str) -> None:
    text = "José\0".encode()
    exif = (
        block(
            order,
            [
                (0x013B, 2, len(text), struct.pack(order + "I", 26)),
            ],
            0,
        )
        + text
    )
    found = parsed(carried(exif))
    assert found.order == order
    assert found.image[0x013B] == (2, len(text), text)


@pytest.mark.parametrize("order", ORDERS)
def test_a_preview_is_left_out(order: str) -> None:
    first = block(order, [(0x0110, 2, 4, b"E 5\0")], following=26)
    second = struct.pack(order + "H", 1) + struct.pack(order + "HHI", 0x0201, 4, 1) + bytes(8)
    exif = carried(first + second).exif or b""
    assert exif == block(order, [(0x0110, 2, 4, b"E 5\0")])


def test_all_that_pillow_reads_is_there_after_being_put_together_again() -> None:
    made = Image.Exif()
    made.update({0x010F: "WorkerSpec", 0x0110: "E 5", 0x011A: 300.0})
    made.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x8827: 400, 0x927C: b"its own", 0xA005: {1: "R98"}})
    made.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 30.0)})
    again = Image.Exif()
    again.load(carried(made.tobytes()).exif or b"")
    assert {tag: again[tag] for tag in (0x010F, 0x0110, 0x011A)} == {0x010F: "WorkerSpec", 0x0110: "E 5", 0x011A: 300}
    photo = again.get_ifd(0x8769)
    assert (photo[0x9003], photo[0x8827], photo[0x927C]) == ("2024:05:06 07:08:09", 400, b"its own")
    assert again.get_ifd(0x8825) == {1: "N", 2: (47, 22, 30)}
    assert again.get_ifd(0xA005) == {1: "R98"}


def test_sizes_are_corrected_where_there_are_any() -> None:
    made = Image.Exif()
    made.update({0x0100: 20, 0x0101: 10})
    made.get_ifd(0x8769).update({0xA002: 20, 0xA003: 10})
    result = parsed(carried(made.tobytes()).into(70_000, 30, None))
    assert [result.number(result.image[tag]) for tag in (0x0100, 0x0101)] == [70_000, 30]
    assert [result.number(result.photo[tag]) for tag in (0xA002, 0xA003)] == [70_000, 30]
    bare = parsed(carried(block("<", [(0x0110, 2, 4, b"E 5\0")])).into(40, 30, None))
    assert set(bare.image) == {0x0110}


def test_the_stamp_is_exif_s_processing_software() -> None:
    result = Image.Exif()
    result.load(Carried().into(4, 3, "dtls 0.1.0").exif or b"")
    assert dict(result) == {0x000B: "dtls 0.1.0"}
    assert Carried().into(4, 3, None) == Carried()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"dtls 0.1.0\0"),
        (b"GIMP 2.10\0", b"GIMP 2.10; dtls 0.1.0\0"),
        ("Café\0one\0 \0\0".encode(), "Café; one; dtls 0.1.0\0".encode()),
    ],
)
def test_in_software_the_stamp_stands_behind_what_is_there(before: bytes, after: bytes) -> None:
    exif = Exif()
    exif.image[PROCESSING_SOFTWARE] = ExifEntry(ASCII, 4, b"old\0")
    if before:
        exif.image[SOFTWARE] = ExifEntry(ASCII, len(before), before)
    result = parsed(Carried(exif=exif.tobytes()).into(4, 3, "dtls 0.1.0", SOFTWARE))
    assert result.image == {SOFTWARE: (ASCII, len(after), after)}


def test_in_processing_software_the_stamp_stands_alone() -> None:
    exif = Exif()
    exif.image[PROCESSING_SOFTWARE] = ExifEntry(ASCII, 4, b"old\0")
    assert parsed(Carried(exif=exif.tobytes()).into(4, 3, "new")).image == {PROCESSING_SOFTWARE: (ASCII, 4, b"new\0")}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_the_orientation_is_taken_out_of_exif(order: str, kind: int) -> None:
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], 6)
    found, orientation = read(b"", {"exif": block(order, [(0x0112, kind, 1, value)])})
    assert (found.exif, orientation) == (None, 6)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    assert read(b"", {"exif": block("<", [(0x0112, 3, 1, struct.pack("<HH", value, 0))])}) == (Carried(), 1)


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [(b'a="b" tiff:Orientation="6"', b""), (b'a="b"', b"<tiff:Orientation>6</tiff:Orientation>")],
)
def test_the_orientation_is_taken_out_of_xmp(attributes: bytes, elements: bytes) -> None:
    found, orientation = read(b"", {"xmp": RDF % (attributes, elements)})
    assert (found.xmp, orientation) == (RDF % (b'a="b"', b""), 6)


def test_exif_s_orientation_comes_before_xmp_s() -> None:
    exif = block("<", [(0x0112, 3, 1, struct.pack("<HH", 1, 0))])
    assert read(b"", {"exif": exif, "xmp": RDF % (b'tiff:Orientation="6"', b"")})[1] == 1


def test_sizes_in_xmp_are_corrected_as_attributes_and_as_elements() -> None:
    xmp = RDF % (
        b'exif:PixelXDimension=\'20\' tiff:ImageLength = "10" my:tiff:ImageWidth="1"',
        b"<exif:PixelYDimension>10</exif:PixelYDimension><tiff:ImageWidth>20</tiff:ImageWidth>",
    )
    assert carried(xmp=xmp).into(40, 30, None).xmp == RDF % (
        b'exif:PixelXDimension=\'40\' tiff:ImageLength = "30" my:tiff:ImageWidth="1"',
        b"<exif:PixelYDimension>30</exif:PixelYDimension><tiff:ImageWidth>40</tiff:ImageWidth>",
    )


@pytest.mark.parametrize(
    "xmp",
    [
        b"<" * 10_000_000,
        b"<rdf:RDF" + b"<tiff:Orientation" * 500_000,
        b"<rdf:RDF" + b"<tiff:Orientation " + b" " * 5_000_000,
        b"<rdf:RDF" + b" tiff:ImageWidth" * 500_000 + b"=" * 500_000,
        b"<rdf:RDF" + b"<tiff:Orientation>" * 500_000,
    ],
)
def test_hostile_xmp_takes_no_time(xmp: bytes) -> None:
    began = time.process_time()
    found, orientation = read(b"", {"xmp": xmp})
    found.into(40, 30, None)
    assert orientation == 1
    assert time.process_time() - began < 5


@pytest.mark.parametrize("xmp", [b"", b"no xmp", RDF % (b"\xff\xfe", b""), b"rdf:RDF" + bytes(LARGEST), "rdf:RDF"])
def test_what_is_no_xmp_is_dropped(xmp: bytes | str) -> None:
    assert read(b"", {"xmp": xmp})[0].xmp is None


def test_a_directory_that_points_to_itself_ends() -> None:
    exif = block(
        "<", [(0x0110, 2, 4, b"E 5\0"), (0x8769, 4, 1, struct.pack("<I", 8)), (0xA005, 4, 1, b"\x08\0\0\0")], 8
    )
    found = parsed(carried(exif))
    assert found.image[0x0110].value == b"E 5\0"


def test_many_entries_of_the_same_bytes_are_read_up_to_a_limit() -> None:
    size = 2_000_000
    entries = [(tag, 7, size, struct.pack("<I", 8)) for tag in range(40_000, 41_000)]
    found = carried(block("<", entries) + bytes(size))
    assert size < len(found.exif or b"") < LARGEST + 100_000


def test_damaged_exif_is_dropped_as_far_as_it_is_damaged() -> None:
    made = Image.Exif()
    made.update({0x0110: "E 5", 0x010E: "a longer text"})
    made.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 30.0)})
    whole, random = made.tobytes(), np.random.default_rng(0)
    kept = 0
    for _ in range(2000):
        damaged = bytearray(whole[: random.integers(len(whole) + 1)])
        for place in random.integers(len(damaged), size=2) if damaged else ():
            damaged[place] = random.integers(256)
        found = carried(bytes(damaged)).into(4, 3, None)
        kept += found.exif is not None
        assert len(found.exif or b"") < 10 * len(whole)
    assert 100 < kept < 2000
    assert parsed(carried(whole[:60])).image


def test_exif_that_imagemagick_wrote_into_a_png_is_read() -> None:
    exif = block("<", [(0x0110, 2, 4, b"E 5\0"), (0x0112, 3, 1, b"\x03\0\0\0")])
    text = f"\nexif\n{len(exif) + 6:8}\n{(b'Exif' + bytes(2) + exif).hex()}\n"
    found, orientation = read(b"", {"Raw profile type exif": text})
    assert (parsed(found).image[0x0110].value, orientation) == (b"E 5\0", 3)
    assert read(b"", {"Raw profile type exif": "\n\n\nzz"}) == (Carried(), 1)


@pytest.mark.parametrize("dpi", [(float("nan"), 72.0), (0, 0), (1e9, 1e9), None, (72,)])
def test_a_resolution_that_cannot_be_is_dropped(dpi: object) -> None:
    assert carried(dpi=dpi).dpi is None


def test_a_resolution_outside_exif_comes_into_it() -> None:
    result = parsed(carried(dpi=(299.9994, 150)).into(4, 3, None))
    assert result.resolution() == pytest.approx((299.9994, 150), abs=1e-3)


def test_a_profile_is_carried_if_it_is_one_and_fits() -> None:
    profile = struct.pack(">I", 200) + bytes(12) + b"RGB " + bytes(16) + b"acsp" + bytes(160)
    assert fitting(profile, b"RGB ") == profile
    assert fitting(profile, b"GRAY") is None
    for bad in (None, b"", b"garbage" * 100, profile[:150], profile.replace(b"acsp", b"acsq")):
        assert fitting(bad, b"RGB ") is None
