"""Photographs are opened in the depth and channels they have, upright, and with what they carry."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from storage.images import decode as codec
from storage.images.encode import Encoding
from storage.images.exif import Exif
from storage.images.formats import MAX_PIXELS, ImageError
from storage.images.metadata import Carried
from storage.images.photo import Photo, Samples, open_photo
from tests.storage.corpus import harmed, png
from tests.storage.images.test_encode import XMP, profile

CMYK = Path("/usr/share/color/icc/ghostscript/default_cmyk.icc")
UPRIGHT: list[tuple[int, Callable[[Any], Any]]] = [
    (1, lambda x: x),
    (2, lambda x: x[:, ::-1]),
    (3, lambda x: x[::-1, ::-1]),
    (4, lambda x: x[::-1]),
    (5, lambda x: x.swapaxes(0, 1)),
    (6, lambda x: np.rot90(x, -1)),
    (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    (8, lambda x: np.rot90(x, 1)),
]


def samples(channels: int, depth: int = 16, height: int = 20, width: int = 30) -> Samples:
    """Noise, (H, W) or (H, W, 2 … 4)."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(2**depth, size=shape).astype(f"uint{depth}")


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks behind its header."""
    made = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"".join((png[:33], *made, png[33:]))


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: Samples, **options: Any) -> bytes:
    buffer = io.BytesIO()
    grey = values.ndim == 2 or values.shape[2] == 2
    if values.ndim == 3 and values.shape[2] in (2, 4):
        options = {"extrasamples": ["unassalpha"]} | options
    if values.ndim == 3 and options.get("planarconfig") == "separate":
        values = np.moveaxis(values, -1, 0)
    tifffile.imwrite(buffer, values, metadata=None, **({"photometric": "minisblack" if grey else "rgb"} | options))
    return buffer.getvalue()


def together(image: Photo) -> NDArray[Any]:
    """The pixels and alpha as `samples` has them."""
    joined = image.pixels if image.alpha is None else np.dstack([image.pixels, image.alpha])
    return joined[..., 0] if joined.shape[2] == 1 else joined


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_keeps_its_depth_and_channels(depth: int, channels: int) -> None:
    values = samples(channels, depth)
    found = open_photo(bytes(imagecodecs.png_encode(values)))
    np.testing.assert_array_equal(together(found), values, strict=True)
    assert (found.format, found.notes, found.carried) == ("PNG", (), Carried())


@pytest.mark.parametrize(("depth", "channels"), [(8, 1), (8, 3), (8, 4), (16, 1), (16, 2), (16, 3), (16, 4)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    "stored", [{}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16), "compression": 8}]
)
def test_a_tiff_keeps_its_depth_and_channels(
    channels: int, depth: int, order: str, planar: str, stored: dict[str, Any]
) -> None:
    if channels > 1:
        stored = stored | {"planarconfig": planar}
    values = samples(channels, depth)
    found = open_photo(tiff(values, byteorder=order, **stored))
    np.testing.assert_array_equal(together(found), values, strict=True)
    assert (found.format, found.notes) == ("TIFF", ())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_tiff_whose_white_is_zero_is_turned_round(depth: int, order: str) -> None:
    values = samples(1, depth)
    found = open_photo(tiff(values, photometric="miniswhite", byteorder=order))
    np.testing.assert_array_equal(together(found), 2**depth - 1 - values)


def test_premultiplied_alpha_becomes_straight() -> None:
    values = np.array([[[65535, 1000, 0, 65535], [16384, 1000, 0, 32768], [0, 0, 0, 0]]], np.uint16)
    found = open_photo(tiff(values, extrasamples=["assocalpha"]))
    assert found.pixels.tolist() == [[[65535, 1000, 0], [32768, 2000, 0], [0, 0, 0]]]
    assert found.alpha is not None
    assert found.alpha.tolist() == [[65535, 32768, 0]]
    tall = open_photo(tiff(np.tile(values, (600, 1, 1)), extrasamples=["assocalpha"]))
    np.testing.assert_array_equal(tall.pixels, np.tile(found.pixels, (600, 1, 1)))


def test_a_channel_that_means_nothing_is_no_alpha() -> None:
    values = samples(4)
    found = open_photo(tiff(values, extrasamples=["unspecified"]))
    np.testing.assert_array_equal(together(found), values[..., :3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_that_hides_nothing_is_none(kind: str) -> None:
    image = Image.fromarray(samples(3, 8))
    image.putalpha(255)
    assert open_photo(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {}))).alpha is None


@pytest.mark.parametrize(
    ("mode", "kind", "shape"),
    [
        ("1", "PNG", 1),
        ("L", "JPEG", 1),
        ("L", "BMP", 1),
        ("RGB", "JPEG", 3),
        ("RGB", "WEBP", 3),
        ("P", "PNG", 3),
        ("P", "GIF", 3),
        ("P", "BMP", 3),
        ("YCbCr", "TIFF", 3),
    ],
)
def test_other_modes_become_grey_or_rgb(mode: str, kind: str, shape: int) -> None:
    image = Image.fromarray(samples(3, 8)).convert(mode)
    data = saved(image, kind)
    found = open_photo(data)
    with Image.open(io.BytesIO(data)) as read:
        np.testing.assert_array_equal(together(found), np.asarray(read.convert("L" if shape == 1 else "RGB")))
    assert (found.pixels.shape, found.alpha, found.format) == ((20, 30, shape), None, kind)


@pytest.mark.parametrize(("kind", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00\xff"), ("GIF", 1)])
def test_a_palette_s_transparent_colour_is_alpha(kind: str, transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found = open_photo(saved(image, kind, transparency=transparency))
    assert found.alpha is not None
    assert found.alpha.tolist() == [[255, 0, 255]]
    assert found.pixels[0, [0, 2]].tolist() == [[10, 20, 30], [70, 80, 90]]


def bmp(alphas: list[int], header: int, mask: int = 0xFF000000) -> bytes:
    """A BMP of one row of red pixels, whose header has so many bytes and says where alpha is."""
    pixels = struct.pack(f"<{len(alphas)}I", *(alpha << 24 | 0xFF0000 for alpha in alphas))
    fields = struct.pack("<IiiHHIIiiII", header, len(alphas), 1, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head = (fields + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, mask)).ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


@pytest.mark.parametrize("header", [40, 56, 64, 108, 124])
def test_an_alpha_of_a_bmp_that_is_zero_everywhere_is_none(header: int) -> None:
    blank, half = bmp([0, 0, 0], header), bmp([0, 128, 0], header)
    found = open_photo(blank)
    assert (found.alpha, found.notes, found.format) == (None, (), "BMP")
    assert found.pixels.tolist() == [[[255, 0, 0]] * 3]
    assert codec.decode(blank).tolist() == [[[255, 0, 0]] * 3]
    if header > 40:
        alpha = open_photo(half).alpha
        assert alpha is not None
        assert alpha.tolist() == [[0, 128, 0]]


@pytest.mark.parametrize("channels", [3, 4])
def test_an_interlaced_png_of_16_bits_is_read_without_a_warning(
    channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = samples(channels)
    passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
    rows = b"".join(
        b"\0" + values[row, left::across].astype(">u2").tobytes()
        for left, across, top, down in passes
        for row in range(top, 20, down)
    )
    data = png(30, 20, (b"IDAT", zlib.compress(rows)), depth=16, colour={3: 2, 4: 6}[channels], interlaced=True)
    np.testing.assert_array_equal(together(open_photo(data)), values)
    assert caplog.records == []


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_s_transparent_colour_is_alpha(depth: int, channels: int) -> None:
    values = samples(channels, depth)
    plain = bytes(imagecodecs.png_encode(values))
    body = b"tRNS" + np.atleast_1d(values[3, 4]).astype(">u2").tobytes()
    data = plain[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + plain[33:]
    found = open_photo(data)
    np.testing.assert_array_equal(found.pixels.squeeze(), values)
    same = (values == values[3, 4]).reshape(20, 30, -1).all(axis=2)
    np.testing.assert_array_equal(found.alpha, np.where(same, 0, 2**depth - 1))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[-5, 0, 65535, 70_000]], np.int32), "from -5 to 70,000"),
        (np.array([[-5, 9]], np.int16), "from -5 to 9"),
        (np.array([[7, 3_000_000_000]], np.uint32), "from 7 to 3,000,000,000"),
    ],
)
def test_whole_numbers_that_16_bits_do_not_hold_are_refused_with_their_range(values: NDArray[Any], said: str) -> None:
    data = tiff(values)
    for opening in (open_photo, codec.decode):
        with pytest.raises(ImageError, match=rf"{said}, not 16-bit \(0 to 65,535\)"):
            opening(data)


@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.int16])
def test_wide_whole_numbers_that_16_bits_hold_go_on_as_16_bits(kind: type) -> None:
    values: NDArray[Any] = np.array([[0, 257, 32767]], kind)
    found = open_photo(tiff(values))
    np.testing.assert_array_equal(together(found), values.astype(np.uint16), strict=True)
    assert codec.decode(tiff(values))[..., 0].tolist() == [[0, 1, 127]]


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        open_photo(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize(("orientation", "seen"), UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "PNG16", "TIFF", "TIFF16"])
def test_images_and_their_alpha_stand_upright_once(orientation: int, seen: Callable[[Any], Any], kind: str) -> None:
    values = samples(4, 16 if kind.endswith("16") else 8)
    exif = Image.Exif()
    exif.update({0x0112: orientation, 0x0110: "E 5"})
    if kind.startswith("TIFF"):
        data = tiff(values, extratags=[(0x0112, 3, 1, orientation, True), (0x0110, 2, 4, b"E 5\0", True)])
    else:
        plain = bytes(imagecodecs.png_encode(values))
        body = b"eXIf" + exif.tobytes()[6:]  # behind the pixels, where some programs write it
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        data = plain[:-12] + chunk + plain[-12:]
    found = open_photo(data)
    np.testing.assert_array_equal(together(found), seen(values))
    kept = Exif.parse(found.carried.exif or b"").image
    assert kept[0x0110].value == b"E 5\0"
    assert 0x0112 not in kept


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_an_image_carries_is_found(kind: str) -> None:
    exif = Image.Exif()
    exif.update({0x0110: "E 5", 0x011A: 150.0, 0x011B: 150.0, 0x0128: 2})
    exif[0x8825] = {1: "N", 2: (47.0, 22.0, 30.0)}
    exif.load(exif.tobytes())
    options: dict[str, Any] = {"exif": exif, "icc_profile": profile(), "dpi": (150, 150), "xmp": XMP}
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        options.pop("xmp")
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    if kind == "TIFF":
        exif[0x02BC] = options.pop("xmp")
    carried = open_photo(saved(Image.fromarray(samples(3, 8)), kind, **options)).carried
    assert (carried.icc, carried.xmp) == (profile(), XMP)
    assert carried.dpi == pytest.approx((150, 150), abs=0.0127)  # PNG counts whole pixels a metre
    again = Image.Exif()
    again.load(carried.exif or b"")
    assert again[0x0110] == "E 5"
    assert again.get_ifd(0x8825) == {1: "N", 2: (47, 22, 30)}
    assert not {258, 259, 262, 273, 277, 278, 279, 284, 700, 34675} & set(again)


def test_a_profile_of_another_colour_space_is_not_carried() -> None:
    assert open_photo(saved(Image.fromarray(samples(1, 8)), "PNG", icc_profile=profile())).carried.icc is None


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "TIFF16"])
def test_of_several_frames_the_first_counts_and_it_is_said(kind: str) -> None:
    if kind == "TIFF16":
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, np.stack([np.full((8, 8), v, np.uint16) for v in (1, 2, 3)]), photometric="minisblack"
        )
        found = open_photo(buffer.getvalue())
        assert np.unique(found.pixels).tolist() == [1]
    else:
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("#f00", "#00f", "#0f0")]
        lossless = {"lossless": True} if kind == "WEBP" else {}
        found = open_photo(saved(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
        assert np.unique(found.pixels.reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]
    assert found.notes == ("the first of 3 frames",)


def test_cmyk_without_a_profile_has_its_colours() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 40))
    for kind in ("JPEG", "TIFF"):
        found = open_photo(saved(red.convert("CMYK"), kind))
        np.testing.assert_allclose(found.pixels, np.asarray(red), atol=4)
        assert found.notes == ("CMYK became RGB",)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb_through_its_profile(kind: str) -> None:
    if not CMYK.exists():
        pytest.skip("wants a CMYK profile: apt-get install libgs-common")
    image = Image.fromarray(np.full((16, 16, 4), (20, 200, 180, 10), np.uint8), "CMYK")
    found = open_photo(saved(image, kind, icc_profile=CMYK.read_bytes()))
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(
        str(CMYK), ImageCms.createProfile("sRGB"), "CMYK", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags
    )
    expected = np.asarray(ImageCms.applyTransform(image, transform))
    np.testing.assert_allclose(found.pixels, expected, atol=3)
    assert np.abs(expected.astype(int) - np.asarray(image.convert("RGB"))).max() > 10
    assert found.carried.icc is None


def test_lab_becomes_rgb() -> None:
    image = ImageCms.profileToProfile(
        Image.new("RGB", (8, 8), (200, 100, 50)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert image is not None
    found = open_photo(saved(image, "TIFF"))
    np.testing.assert_allclose(found.pixels, np.full((8, 8, 3), (200, 100, 50)), atol=3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_metadata_never_stops_an_image(kind: str) -> None:
    image = Image.fromarray(samples(3, 8))
    clean = open_photo(saved(image, kind)).pixels
    loop = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8)
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01", loop):
        options: dict[str, Any] = {"icc_profile": b"garbage" * 100}
        if kind != "TIFF":
            options["exif"] = exif
        if kind in ("JPEG", "WEBP"):
            options["xmp"] = b"<" * 60_000
        began = time.process_time()
        found = open_photo(saved(image, kind, **options))
        assert time.process_time() - began < 5
        np.testing.assert_array_equal(found.pixels, clean)
        assert (found.carried.icc, found.carried.xmp) == (None, None)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_that_are_damaged_give_an_image_or_an_image_error(kind: str, channels: int) -> None:
    values = samples(channels)
    whole = bytes(imagecodecs.png_encode(values)) if kind == "PNG" else tiff(values, compression="adobe_deflate")
    random, reasons = np.random.default_rng(0), []
    for data in harmed(whole, random, 60):
        try:
            open_photo(data)
        except ImageError as error:
            reasons.append(str(error))
    assert len(reasons) > 60
    assert not any("\n" in reason for reason in reasons)


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("stored", [{}, {"compression": "lzw"}, {"compression": "packbits"}, {"tile": (16, 16)}])
def test_half_a_tiff_of_16_bits_is_no_image(stored: dict[str, Any], cut: float) -> None:
    whole = tiff(samples(3, height=32, width=32), **stored)
    with pytest.raises(ImageError):
        open_photo(whole[: int(len(whole) * cut)])


def test_a_bomb_of_16_bits_is_refused_before_it_goes_off() -> None:
    data = bytearray(tiff(samples(3)))
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
        data[at : at + 4] = struct.pack("<I", 100_000)
    with pytest.raises(ImageError, match=f"100000×100000 is more than {MAX_PIXELS:,} pixels"):
        open_photo(bytes(data))


@pytest.mark.parametrize("data", [b"", b"text", b"II*\0", b"MM\0*\0\0\0\x08", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"not an image|broken image"):
        open_photo(data)


def test_a_jpeg_with_a_second_image_is_a_jpeg() -> None:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("#f00", "#00f"))
    found = open_photo(saved(first, "MPO", save_all=True, append_images=[second]))
    assert (found.format, found.notes) == ("JPEG", ("the first of 2 frames",))


def noted(data: bytes) -> tuple[str, ...]:
    return open_photo(data).notes


@pytest.mark.parametrize("resource", [0x0404, 0x0425])
def test_iptc_in_a_jpeg_is_noted_as_left_out_and_no_other_of_photoshop_s_resources(resource: int) -> None:
    plain = saved(Image.fromarray(samples(3, 8)), "JPEG")
    body = b"8BIM" + struct.pack(">HHI", resource, 0, 10) + b"\x1c\x02\x5a\x00\x05Paris"
    notes = noted(with_segment(plain, 0xED, b"Photoshop 3.0\0" + body))
    assert notes == (("IPTC left out",) if resource == 0x0404 else ())


def test_what_else_a_jpeg_holds_is_noted_as_left_out() -> None:
    plain = saved(Image.fromarray(samples(3, 8)), "JPEG")
    path = b"Photoshop 3.0\x008BIM" + struct.pack(">HHI", 2000, 0, 26) + bytes(26)
    assert noted(with_segment(plain, 0xED, path)) == ("clipping paths left out",)
    assert noted(with_segment(plain, 0xEB, b"JP\0\1\0\0\0\1\0\0\0\x20jumb\0\0\0\x18jumdc2pa")) == (
        "content credentials left out",
    )
    assert noted(plain + b"MotionPhoto_Data" + bytes(8) + b"SEFT") == (
        "what Samsung stores behind the image left out",
    )


def test_extended_xmp_is_noted_as_left_out() -> None:
    plain = saved(Image.fromarray(samples(3, 8)), "JPEG", xmp=XMP)
    assert noted(plain) == ()
    assert noted(with_segment(plain, 0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60))) == (
        "extended XMP left out",
    )


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_a_comment_is_noted_as_left_out_unless_it_is_empty(kind: str) -> None:
    image = Image.fromarray(samples(1, 8))
    assert noted(saved(image, kind, comment=b"by Jane")) == ("comment left out",)
    assert noted(saved(image, kind, comment=b" \0")) == ()


@pytest.mark.parametrize(
    ("chunk", "body"),
    [
        (b"tEXt", b"Author\0Jane"),
        (b"zTXt", b"Author\0\0" + zlib.compress(b"Jane")),
        (b"iTXt", b"Author\0\0\0\0\0Jane"),
    ],
)
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_s_text_is_noted_as_left_out(chunk: bytes, body: bytes, depth: int) -> None:
    plain = bytes(imagecodecs.png_encode(samples(3, depth)))
    assert noted(with_chunks(plain, (chunk, body))) == ("text left out",)


def test_of_a_png_s_texts_xmp_and_exif_are_carried_and_iptc_is_noted() -> None:
    plain = bytes(imagecodecs.png_encode(samples(3, 8)))
    xmp = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    exif = (b"tEXt", b"Raw profile type exif\0\nexif\n      14\n" + (b"Exif\0\0II*\0" + bytes(4)).hex().encode())
    iptc = (b"tEXt", b"Raw profile type iptc\0\niptc\n       2\n3842")
    assert noted(with_chunks(plain, xmp, exif)) == ()
    assert noted(with_chunks(plain, xmp, exif, iptc)) == ("IPTC left out",)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("chunks", "note"),
    [
        ({b"gAMA": 100_000}, "gamma of 1 left out"),
        ({b"gAMA": 55_556}, "gamma of 0.55556 left out"),
        ({b"gAMA": 45_455}, ""),
        ({b"gAMA": 45_000}, ""),
        ({b"gAMA": 100_000, b"sRGB": 0}, ""),
        ({b"gAMA": 100_000, b"iCCP": 0}, ""),
    ],
)
def test_a_png_s_gamma_is_carried_into_a_png_and_noted_elsewhere_where_it_matters(
    chunks: dict[bytes, int], note: str, depth: int
) -> None:
    plain = bytes(imagecodecs.png_encode(samples(3, depth)))
    bodies = {
        b"gAMA": struct.pack(">I", chunks[b"gAMA"]),
        b"sRGB": b"\0",
        b"iCCP": b"a\0\0" + zlib.compress(profile()),
    }
    found = open_photo(with_chunks(plain, *((kind, bodies[kind]) for kind in chunks)))
    assert found.notes == ()
    jpeg = Encoding().encode(found, ".jpg", None)
    assert [said for said in jpeg.notes if "gamma" in said] == ([note] if note else [])
    png = Encoding().encode(found, ".png", None)
    assert png.notes == ()
    assert b"gAMA" + bodies[b"gAMA"] in png.data


@pytest.mark.parametrize("name", [b"comment", b"gamma", b"photoshop", b"icc_profile", b"dpi", b"exif", b"xmp"])
def test_a_text_named_as_something_else_is_a_text(name: bytes) -> None:
    plain = bytes(imagecodecs.png_encode(samples(3, 8)))
    found = open_photo(with_chunks(plain, (b"iTXt", name + b"\0\0\0\0\0Jane")))
    assert (found.carried, found.notes) == (Carried(), ("text left out",))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("missing", [1, 8, 12])
def test_a_png_that_only_lacks_its_end_is_read_with_a_note(dtype: Any, missing: int) -> None:
    values = np.random.default_rng(0).integers(256, size=(9, 7, 3)).astype(dtype)
    data = bytes(imagecodecs.png_encode(values))
    found = open_photo(data[:-missing])
    np.testing.assert_array_equal(found.pixels, values)
    assert found.notes == ("no end marker",)
    assert open_photo(data).notes == ()
    with pytest.raises(ImageError, match=r"^broken image: cut off$"):
        open_photo(data[:-30])
