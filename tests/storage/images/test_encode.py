"""Results in each format, seen by two other programs, exiftool and vips: pixels, sizes, and all that is carried."""

import io
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from storage.images import decode as codec
from storage.images.encode import Encoded, Encoding
from storage.images.formats import Format, ImageError
from storage.images.metadata import Carried
from storage.images.photo import Photo, open_photo
from tests.storage.programs import exiftool, program, seen_by_exiftool, seen_by_vips

GHOSTSCRIPT_GREY = Path("/usr/share/color/icc/ghostscript/sgray.icc")
STAMP = "dtls 0.1.0 lanczos ×2"
SUFFIXES = (".png", ".jpg", ".webp", ".tif")
KINDS = [(depth, channels) for depth in (8, 16) for channels in (1, 2, 3, 4)]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    b'tiff:ImageWidth="20" exif:PixelXDimension="20" photoshop:City="Z\xc3\xbcrich">'
    b"<tiff:ImageLength>10</tiff:ImageLength></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile() -> bytes:
    if not GHOSTSCRIPT_GREY.exists():
        pytest.skip("wants a grey ICC profile: apt-get install libgs-common")
    return GHOSTSCRIPT_GREY.read_bytes()


def exif() -> bytes:
    block = Image.Exif()
    block.update({0x010F: "WorkerSpec", 0x0110: "E 5", 0x0131: "Camera 1.0", 0x0100: 20, 0x0101: 10, 0x8298: "Jane"})
    block.get_ifd(0x8769).update(
        {0xA002: 20, 0xA003: 10, 0x8827: 400, 0x927C: b"maker's own", 0x9003: "2024:05:06 07:08:09"}
    )
    block.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 32.0, 0.0)})
    block.get_ifd(0x8769)[0xA005] = {1: "R98"}
    return block.tobytes()[6:]


def photograph(depth: int = 8, channels: int = 3, **carried: Any) -> Photo:
    """A result of 40×30 whose source was 20×10: a smooth image, half transparent where it has alpha."""
    y, x, c = np.mgrid[0:30, 0:40, 0:channels]
    samples = ((3 * x + 2 * y + 20 * c) * (1 if depth == 8 else 257) + (depth - 8) * x).astype(f"uint{depth}")
    alpha = samples[..., -1].copy() if channels in (2, 4) else None
    pixels = samples if alpha is None else np.ascontiguousarray(samples[..., :-1])
    everything = {"exif": exif(), "xmp": XMP, "dpi": (300.0, 300.0), "icc": profile() if channels > 2 else None}
    return Photo(pixels, alpha, Carried(**(everything | carried)), "PNG", ())


def together(image: Photo) -> NDArray[Any]:
    return image.pixels if image.alpha is None else np.dstack([image.pixels, image.alpha])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_other_programs_see_all_that_is_carried(depth: int, channels: int, suffix: str, tmp_path: Path) -> None:
    image = photograph(depth, channels)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(Encoding().encode(image, suffix, STAMP).data)
    tags = seen_by_exiftool(path)
    assert tags["Composite:ImageSize"] == "40 30"
    expected = {
        "IFD0:ProcessingSoftware": None if suffix == ".tif" else STAMP,
        "IFD0:Software": f"Camera 1.0; {STAMP}" if suffix == ".tif" else "Camera 1.0",
        "IFD0:Make": "WorkerSpec",
        "IFD0:Model": "E 5",
        "IFD0:Copyright": "Jane",
        "IFD0:ImageWidth": 40,
        "IFD0:ImageHeight": 30,
        "IFD0:XResolution": 300,
        "IFD0:ResolutionUnit": 2,
        "ExifIFD:ExifImageWidth": 40,
        "ExifIFD:ExifImageHeight": 30,
        "ExifIFD:ISO": 400,
        "ExifIFD:DateTimeOriginal": "2024:05:06 07:08:09",
        "InteropIFD:InteropIndex": "R98",
        "Composite:GPSLatitude": 47.375,
        "Composite:GPSLongitude": pytest.approx(8 + 32 / 60),
        "XMP-tiff:ImageWidth": 40,
        "XMP-tiff:ImageHeight": 30,
        "XMP-exif:ExifImageWidth": 40,
        "XMP-photoshop:City": "Zürich",
    }
    assert {name: tags.get(name) for name in expected} == expected
    assert not [name for name in tags if "Orientation" in name]
    if suffix == ".png":
        assert (tags["PNG-pHYs:PixelsPerUnitX"], tags["PNG-pHYs:PixelUnits"]) == (11811, 1)
    if suffix == ".jpg":
        assert (tags["JFIF:XResolution"], tags["JFIF:ResolutionUnit"]) == (300, 1)
    assert exiftool("-icc_profile", "-b", str(path)) == (image.carried.icc or b"")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_vips_sees_every_sample_of_what_is_without_loss(
    depth: int, channels: int, suffix: str, tmp_path: Path
) -> None:
    image = photograph(depth, channels)
    path = tmp_path / f"a{suffix}"
    encoded = Encoding().encode(image, suffix, STAMP)
    path.write_bytes(encoded.data)
    np.testing.assert_array_equal(seen_by_vips(path, channels, depth), together(image))
    assert encoded.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_vips_sees_a_webp_nearly_and_its_transparency_exactly(depth: int, channels: int, tmp_path: Path) -> None:
    image = photograph(depth, channels)
    path = tmp_path / "a.webp"
    path.write_bytes(Encoding(quality=100).encode(image, ".webp", STAMP).data)
    bands = 3 if image.alpha is None else 4
    seen = seen_by_vips(path, bands, 8).astype(int)
    scale = 1 if depth == 8 else 257
    assert np.abs(seen[..., :3] - image.pixels / scale).mean() < 2
    if image.alpha is not None:
        np.testing.assert_array_equal(seen[..., 3], (image.alpha.astype(int) + scale // 2) // scale)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_vips_sees_a_jpeg_nearly_and_transparency_as_white(depth: int, channels: int, tmp_path: Path) -> None:
    image = photograph(depth, channels)
    path = tmp_path / "a.jpg"
    encoded = Encoding(quality=100).encode(image, ".jpg", STAMP)
    path.write_bytes(encoded.data)
    bands, most = image.pixels.shape[2], 2**depth - 1
    seen = seen_by_vips(path, bands, 8).astype(int)
    opaque = 1.0 if image.alpha is None else image.alpha[..., None] / most
    assert np.abs(seen - (image.pixels / most * opaque + 1 - opaque) * 255).mean() < 1
    tags = seen_by_exiftool(path)
    assert bands == 1 or tags["File:YCbCrSubSampling"] == "1 1"
    notes = ("16 bits became 8",) if depth == 16 else ()
    white = ("transparency laid over white, as JPEG has none",) if image.alpha is not None else ()
    assert encoded.notes == notes + white


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_the_same_photograph_gives_the_same_bytes(depth: int, channels: int, suffix: str) -> None:
    image = photograph(depth, channels)  # once, as its profile says in which second it was made
    first, second = (Encoding().encode(image, suffix, STAMP).data for _ in range(2))
    assert first == second


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_what_is_written_can_be_opened_again_and_carries_the_same(depth: int, channels: int, suffix: str) -> None:
    again = open_photo(Encoding().encode(photograph(depth, channels), suffix, STAMP).data)
    once_more = open_photo(Encoding().encode(again, suffix, None).data)
    assert once_more.carried.icc == again.carried.icc
    assert once_more.carried == again.carried
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(together(again), together(photograph(depth, channels)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_vips_has_nothing_to_warn_of_in_a_result_with_a_stamp(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(Encoding().encode(photograph(), suffix, STAMP).data)
    command = [program("vips", "libvips-tools"), "rawsave", str(path), str(tmp_path / "a.raw")]
    assert subprocess.run(command, check=True, capture_output=True).stderr == b""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_carried_and_no_stamp_leave_no_metadata(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    bare = replace(photograph(), carried=Carried())
    path.write_bytes(Encoding().encode(bare, suffix, None).data)
    carried = open_photo(path.read_bytes()).carried
    assert (carried.icc, carried.xmp, carried.dpi) == (None, None, None)
    names = " ".join(seen_by_exiftool(path))
    assert not any(word in names for word in ("Software", "DateTime", "ICC", "XMP", "GPS", "Description"))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_grey_profile_goes_with_grey_only(channels: int, suffix: str) -> None:
    image = photograph(8, channels, icc=grey_profile())
    data = Encoding(quality=100).encode(image, suffix, None).data
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info.get("icc_profile") == (None if suffix == ".webp" else grey_profile())


def test_webp_keeps_the_colours_of_what_is_transparent() -> None:
    image = replace(photograph(8, 4), alpha=np.zeros((30, 40), np.uint8))
    again = open_photo(Encoding(quality=100).encode(image, ".webp", None).data)
    assert abs(again.pixels.astype(int) - image.pixels).mean() < 3


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65_501), (".jpeg", 65_501), (".webp", 16_384)])
def test_a_side_too_long_for_a_format_is_refused_with_what_to_take(suffix: str, side: int) -> None:
    image = Photo(np.zeros((1, side, 1), np.uint8), None, Carried(), "PNG", ())
    with pytest.raises(
        ImageError, match=rf"{side}×1 is more than the {side - 1:,} pixels a side of .*: take png or tiff"
    ):
        Encoding().encode(image, suffix, None)
    fits = replace(image, pixels=image.pixels[:, :-1])
    assert Encoding().encode(fits, suffix, None).data


@pytest.mark.parametrize(("part", "size"), [("exif", 65_600), ("xmp", 65_600)])
def test_metadata_that_a_jpeg_cannot_hold_is_left_out_with_a_note(part: str, size: int) -> None:
    long = XMP.replace(b"Z\xc3\xbcrich", b"x" * size)
    block = Image.Exif()
    block[0x010E] = "x" * size
    found: dict[str, Any] = {part: long if part == "xmp" else block.tobytes()[6:]}
    image = photograph(**found)
    encoded = Encoding().encode(image, ".jpg", STAMP)
    assert [note.split(" of ")[0] for note in encoded.notes] == [part.upper()]
    assert open_photo(encoded.data).carried.icc == image.carried.icc
    assert Encoding().encode(image, ".tif", STAMP).notes == ()


@pytest.mark.parametrize(
    ("form", "key", "suffix"),
    [
        ("png", "a/b.JPG", ".png"),
        ("jpeg", "a.png", ".jpg"),
        ("webp", "a", ".webp"),
        ("tiff", "a.tiff", ".tif"),
        ("same", "a/b.JPG", ".JPG"),
        ("same", "a.v2.Tiff", ".Tiff"),
        ("same", "a.jpeg", ".jpeg"),
        ("same", "a.webp", ".webp"),
        ("same", "a.gif", ".png"),
        ("same", "a.BMP", ".png"),
    ],
)
def test_a_result_is_named_by_its_format(form: Format, key: str, suffix: str) -> None:
    assert Encoding(form).suffix(key) == suffix


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".JPG", "JPEG"), (".jpeg", "JPEG"), (".TIFF", "TIFF"), (".Png", "PNG")]
)
def test_the_suffix_says_the_format(suffix: str, kind: str) -> None:
    encoded: Encoded = Encoding("same").encode(photograph(), suffix, None)
    assert open_photo(encoded.data).format == kind


def test_quality_is_what_jpeg_and_webp_take() -> None:
    for suffix in (".jpg", ".webp"):
        sizes = [len(Encoding(quality=q).encode(photograph(), suffix, None).data) for q in (20, 95)]
        assert sizes[0] < sizes[1]


def test_results_are_decoded_by_training_too() -> None:
    image = photograph()
    for suffix in (".png", ".tif"):
        np.testing.assert_array_equal(codec.decode(Encoding().encode(image, suffix, STAMP).data), image.pixels)


@pytest.mark.parametrize(("depth", "channels"), KINDS)
def test_tiffs_of_any_depth_are_decoded_by_training_over_white(depth: int, channels: int) -> None:
    image = photograph(depth, channels)
    most = 2**depth - 1
    opaque = 1.0 if image.alpha is None else image.alpha[..., None] / most
    expected = np.broadcast_to((image.pixels / most * opaque + 1 - opaque) * 255, (30, 40, 3))
    decoded = codec.decode(Encoding().encode(image, ".tif", STAMP).data)
    np.testing.assert_allclose(decoded, expected, atol=1.01)


@pytest.mark.parametrize(
    ("form", "differs"), [("png", False), ("tiff", False), ("jpeg", True), ("webp", True), ("same", True)]
)
def test_quality_is_part_of_the_identity_where_it_changes_results(form: Format, differs: bool) -> None:
    low, high = Encoding(form, 20).identity, Encoding(form, 95).identity
    assert (low != high) == differs
    assert (low["format"], low.get("quality", 20), "quality" in low) == (form, 20, differs)


def test_the_iptc_of_a_tiff_goes_along(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    Image.new("RGB", (8, 8)).save(source)
    exiftool("-q", "-overwrite_original", "-IPTC:City=Paris", str(source))
    found = open_photo(source.read_bytes())
    assert found.notes == ()
    result = tmp_path / "b.tif"
    result.write_bytes(Encoding().encode(found, ".tif", STAMP).data)
    assert seen_by_exiftool(result)["IPTC:City"] == "Paris"


@pytest.mark.parametrize("depth", [8, 16])
def test_every_row_of_a_tall_image_becomes_8_bits_over_white(depth: int) -> None:
    clear = np.zeros((600, 8), f"uint{depth}")
    black = Photo(np.repeat(clear[..., None], 3, axis=2), clear, Carried(), "PNG", ())
    for image in (black, replace(black, pixels=~black.pixels, alpha=None)):
        assert (open_photo(Encoding().encode(image, ".jpg", None).data).pixels == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_samples_are_written_in_whatever_order_they_lie_in_memory(suffix: str) -> None:
    """What comes from tensors lies plane by plane."""
    image = photograph(16, 4)
    assert image.alpha is not None
    by_planes = replace(image, pixels=image.pixels.copy("F"), alpha=image.alpha.copy("F"))
    assert Encoding().encode(by_planes, suffix, None) == Encoding().encode(image, suffix, None)
