"""Every kind of image becomes upright 8-bit RGB; whatever is no whole image says why in a line."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from storage.images.decode import decode, encode_png, resize_shorter, resize_square
from storage.images.formats import MAX_PIXELS, ImageError, Pixels, is_image, stem
from storage.images.jpeg import MAX_SCANS, SCAN
from tests.storage.corpus import harmed


@pytest.fixture(scope="module")
def pixels(photographs: Path) -> Pixels:
    """A real image, 48 pixels high and 64 wide."""
    with Image.open(photographs / "00000" / "00000.png") as image:
        return np.asarray(image)[8:56].copy()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large, and has next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def refusal(data: bytes) -> str:
    """The one line with which bytes are refused."""
    with pytest.raises(ImageError) as refused:
        decode(data)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_formats_without_loss_come_back_exactly(kind: str, pixels: Pixels) -> None:
    few = Image.fromarray(pixels).quantize(64).convert("RGB")
    data = encoded(few, kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(decode(data), np.asarray(few))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_formats_with_loss_come_back_nearly(kind: str, pixels: Pixels) -> None:
    decoded = decode(encoded(Image.fromarray(pixels), kind, quality=95))
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).mean() < 3


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda x: np.rot90(x, 1)),
    ],
)
def test_images_stand_upright(orientation: int, seen: Callable[[Pixels], Pixels], pixels: Pixels) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), exif=exif)), seen(pixels))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_three_equal_channels(mode: str, pixels: Pixels) -> None:
    grey = Image.fromarray(pixels).convert(mode)
    decoded = decode(encoded(grey))
    for channel in range(3):
        np.testing.assert_array_equal(decoded[..., channel], np.asarray(grey.convert("L")))


def test_transparency_is_laid_over_white() -> None:
    colours = np.zeros((1, 3, 4), dtype=np.uint8)
    colours[..., :3] = (200, 100, 0)
    colours[0, :, 3] = (0, 51, 255)
    expected = [[(255, 255, 255), (244, 224, 204), (200, 100, 0)]]
    np.testing.assert_allclose(decode(encoded(Image.fromarray(colours))), expected, atol=1)


def test_grey_transparency_is_laid_over_white() -> None:
    grey = np.array([[(0, 0), (0, 51), (100, 255)]], dtype=np.uint8)
    expected = [[(255,) * 3, (204,) * 3, (100,) * 3]]
    np.testing.assert_allclose(decode(encoded(Image.fromarray(grey, "LA"))), expected, atol=1)


@pytest.mark.parametrize(("kind", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00\xff"), ("GIF", 1)])
def test_a_palette_s_transparent_colour_is_white(kind: str, transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    decoded = decode(encoded(image, kind, transparency=transparency))
    assert decoded.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_a_transparent_colour_of_an_rgb_image_is_white() -> None:
    image = Image.fromarray(np.array([[(1, 2, 3), (4, 5, 6)]], dtype=np.uint8))
    assert decode(encoded(image, transparency=(4, 5, 6))).tolist() == [[[1, 2, 3], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind: str) -> None:
    samples = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(samples), kind))
    assert decoded.tolist() == [[[v] * 3 for v in (0, 0, 1, 1, 128, 255)]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_16_bits_whose_white_is_zero_is_turned_round(order: str) -> None:
    data = tiff(np.array([[0, 257, 65535]], np.uint16), photometric="miniswhite", byteorder=order)
    assert decode(data).tolist() == [[[v] * 3 for v in (255, 254, 0)]]


def test_a_grey_tiff_of_16_bits_with_alpha_is_laid_over_white_and_upright() -> None:
    values = np.array([[(0, 65535), (0, 0), (257, 65535)]], np.uint16)
    turned = [(0x0112, 3, 1, 6, True)]
    data = tiff(values, photometric="minisblack", planarconfig="contig", extrasamples=[2], extratags=turned)
    assert decode(data).tolist() == [[[v] * 3] for v in (0, 255, 1)]


def test_samples_of_unknown_range_are_refused() -> None:
    image = Image.fromarray(np.ones((2, 2), dtype=np.float32))
    assert refusal(encoded(image, "TIFF")) == "pixels are floating-point numbers, whose range is not known"


def test_a_cmyk_jpeg_has_its_colours() -> None:
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[...] = (220, 30, 40)
    decoded = decode(encoded(Image.fromarray(red).convert("CMYK"), "JPEG", quality=100))
    assert decoded.shape == (16, 16, 3)
    np.testing.assert_allclose(decoded, red, atol=4)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_images_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
    assert decoded.reshape(-1, 3).tolist() == [[255, 0, 0]] * 64


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "broken image: "),
        ("truncated.png", "broken image: "),
        ("text.png", "not an image (18 bytes)"),
        ("empty.png", "not an image (0 bytes)"),
    ],
)
def test_what_is_no_whole_image_says_why(name: str, reason: str, bad_images: dict[str, Path]) -> None:
    message = refusal(bad_images[name].read_bytes())
    assert message.startswith(reason)
    assert len(message) > len("broken image: ")


@pytest.mark.parametrize(
    ("kind", "how"), [("WEBP", {}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"}), ("GIF", {})]
)
def test_what_is_cut_off_is_called_so(kind: str, how: dict[str, Any], pixels: Pixels) -> None:
    whole = encoded(Image.fromarray(pixels), kind, **how)
    assert refusal(whole[: len(whole) * 2 // 3]) == "broken image: cut off"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_whatever_is_damaged_gives_an_image_or_an_image_error(kind: str, pixels: Pixels) -> None:
    whole = encoded(Image.fromarray(pixels), kind)
    reasons: list[str] = []
    random = np.random.default_rng(0)
    for data in harmed(whole, random, 60):
        try:
            decode(data)
        except ImageError as error:
            reasons.append(str(error))
    assert len(reasons) > 10
    assert not any("\n" in reason for reason in reasons)


@pytest.mark.parametrize("sides", [(14_000, 14_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_goes_off(sides: tuple[int, int]) -> None:
    assert f"more than {MAX_PIXELS:,} pixels" in refusal(png_header(*sides))


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_jpeg_of_many_scans_is_refused_alone_and_with_a_second_image(kind: str, pixels: Pixels) -> None:
    image = Image.fromarray(pixels)
    options = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}
    whole = encoded(image, kind, **options)
    assert decode(whole).shape == pixels.shape
    assert refusal(whole + SCAN * MAX_SCANS) == "more than 1,000 scans, which would take minutes"


def test_what_libtiff_says_of_a_damaged_image_is_not_printed(
    pixels: Pixels, capfd: pytest.CaptureFixture[str]
) -> None:
    for packing in ("tiff_adobe_deflate", "tiff_lzw"):
        whole = encoded(Image.fromarray(pixels), "TIFF", compression=packing)
        damaged = whole[:100] + bytes(200) + whole[300:]
        assert refusal(damaged) == "broken image: its pixels cannot be decoded"
    assert capfd.readouterr() == ("", "")


def test_what_is_an_image_of_another_kind_is_refused_by_its_name() -> None:
    assert refusal(tiff(np.ones((4, 4, 3), np.float32), photometric="rgb")) == (
        "a TIFF of 3 samples of 32-bit floating-point numbers, which is not read; "
        "convert it to 8 or 16 bits, grey or RGB"
    )


def test_formats_that_run_programs_are_not_tried() -> None:
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n").startswith("not an image")


def test_png_keeps_every_pixel_and_is_the_same_every_time(pixels: Pixels) -> None:
    data = encode_png(pixels)
    assert data == encode_png(pixels.copy())
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode(data), pixels)


def test_a_square_is_the_middle_reduced_by_pillow_s_bicubic(pixels: Pixels) -> None:
    for image in (pixels, pixels.swapaxes(0, 1)):
        height, width = image.shape[:2]
        top, left = (height - 48) // 2, (width - 48) // 2
        middle = Image.fromarray(np.ascontiguousarray(image[top : top + 48, left : left + 48]))
        np.testing.assert_array_equal(resize_square(image, 48), np.asarray(middle))
        reduced = middle.resize((20, 20), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resize_square(image, 20), np.asarray(reduced))


def test_a_whole_image_is_reduced_until_its_shorter_side_fits(pixels: Pixels) -> None:
    reduced = Image.fromarray(pixels).resize((27, 20), Image.Resampling.BICUBIC)  # of 64×48
    np.testing.assert_array_equal(resize_shorter(pixels, 20), np.asarray(reduced))
    assert resize_shorter(np.ascontiguousarray(pixels.swapaxes(0, 1)), 20).shape == (27, 20, 3)
    np.testing.assert_array_equal(resize_shorter(pixels, 48), pixels)


def test_an_image_is_never_enlarged_to_a_square(pixels: Pixels) -> None:
    with pytest.raises(ImageError, match="64×48 is smaller than the size 49"):
        resize_square(pixels, 49)


def test_names_tell_images_from_other_files() -> None:
    assert all(map(is_image, ("a.png", "b/c.JPG", "d.v2.jpeg", "e.Tiff", "f.webp", "g.bmp", "h.gif", "i.tif")))
    assert not any(map(is_image, ("a.txt", "png", "b.png/c", "d.png.json", ".png", "e.", "f.eps", "")))


def test_a_stem_is_the_key_without_its_last_suffix() -> None:
    assert [stem(key) for key in ("a.png", "b/c.v2.jpg", "b/c", ".png")] == ["a", "b/c.v2", "b/c", ".png"]
