"""What is not read as an image is called by its name, with what to do."""

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from storage.images.unsupported import described

IMAGE = np.random.default_rng(0).integers(256, size=(16, 16, 3)).astype(np.uint8)
CONVERT = ", which is not read; convert it"


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def pdf() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "PDF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(imagecodecs.avif_encode(IMAGE)), f"an AVIF image{CONVERT}"),
        (bytes(imagecodecs.jpegxl_encode(IMAGE)), f"a JPEG XL image{CONVERT}"),
        (bytes(imagecodecs.jpegxl_encode(IMAGE, usecontainer=True)), f"a JPEG XL image{CONVERT}"),
        (bytes(imagecodecs.jpeg2k_encode(IMAGE)), f"a JPEG 2000 image{CONVERT}"),
        (bytes(imagecodecs.jpeg2k_encode(IMAGE, codecformat="j2k")), f"a JPEG 2000 image{CONVERT}"),
        (pdf(), f"a PDF document{CONVERT}"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", f"a HEIC image{CONVERT}"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", f"a camera's raw image (Canon){CONVERT}"),
        (b"\0\0\0\x18ftypisom\0\0\0\x01isom", "a film, not an image"),
        (b"FUJIFILMCCD-RAW 0201", f"a camera's raw image (Fujifilm){CONVERT}"),
        (b"8BPS\0\x01", f"a Photoshop document{CONVERT}"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', f"an SVG drawing{CONVERT}"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "a Git LFS pointer, not the image itself; fetch that with git lfs pull",
        ),
    ],
)
def test_files_of_other_kinds_are_called_by_their_names(data: bytes, said: str) -> None:
    assert described(data) == said


@pytest.mark.parametrize(
    "page",
    [
        b"\xef\xbb\xbf\r\n<!DOCTYPE html><html>404</html>",
        b"<html><head>403 Forbidden</head></html>",
        b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>',
    ],
)
def test_a_page_that_came_for_an_image_is_told(page: bytes) -> None:
    assert described(page) == "a web page or a server's error, not an image; fetch it again"


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (np.ones((8, 8, 5), np.uint8), {"planarconfig": "contig"}, "5 samples of 8-bit whole numbers"),
        (np.ones((8, 8)), {}, "1 sample of 64-bit floating-point numbers"),
        (np.ones((8, 8, 3), np.float32), {"photometric": "rgb"}, "3 samples of 32-bit floating-point numbers"),
        (np.ones((8, 8), np.int64), {}, "1 sample of 64-bit signed whole numbers"),
        (np.ones((8, 8), np.complex64), {}, "1 sample of 64-bit complex numbers"),
        (np.ones((3, 8, 8), np.uint8), {"photometric": 1, "planarconfig": 2}, "3 samples of 8-bit whole numbers"),
        (np.ones((8, 8), np.uint16), {"photometric": "cfa"}, "1 sample of 16-bit whole numbers (CFA)"),
    ],
)
def test_a_tiff_is_told_by_its_samples(values: NDArray[Any], options: dict[str, Any], said: str) -> None:
    assert described(tiff(values, **options)) == f"a TIFF of {said}{CONVERT} to 8 or 16 bits, grey or RGB"


def test_a_tiff_is_told_by_its_compression() -> None:
    assert described(tiff(IMAGE, photometric="rgb", compression="jpegxl")) == (
        "a TIFF of 3 samples of 8-bit whole numbers, compressed as JPEGXL, which is not read; store it uncompressed"
    )


@pytest.mark.parametrize("data", [b"", b"text", b"II", b"\0II*"])
def test_what_is_nothing_known_is_told_by_its_size(data: bytes) -> None:
    assert described(data) == f"not an image ({len(data)} bytes)"


def test_a_tiff_of_a_usual_kind_is_damaged_and_not_told_to_be_converted() -> None:
    whole = tiff(IMAGE, photometric="rgb")
    for data in (whole, tiff(IMAGE[..., 0] > 99), b"II*\0" + bytes(100)):
        assert described(data) == "broken image: a damaged TIFF"


@pytest.mark.parametrize("head", [b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"])
def test_a_tiff_that_ends_before_its_directory_is_cut_off(head: bytes) -> None:
    length = 8 if b"+" in head else 4
    place = (1000).to_bytes(length, "little" if head.startswith(b"II") else "big")
    assert described(head + place + bytes(900)) == "broken image: cut off"
    assert described(head + place + bytes(1000)) == "broken image: a damaged TIFF"


def test_a_damaged_tiff_is_told_in_one_line() -> None:
    whole, random = tiff(np.ones((8, 8))), np.random.default_rng(0)
    for place in random.integers(len(whole), size=100).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 0xA5
        for data in (bytes(damaged), whole[:place]):
            assert described(data).startswith(("a TIFF of ", "not an image (", "broken image: "))
            assert "\n" not in described(data)
