"""JPEGs of rare kinds are read in their own depth; what only lacks its end is read, and what is cut off is not."""

import io
import struct
import time
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from storage.images import decode as codec
from storage.images.encode import Encoding
from storage.images.formats import ImageError
from storage.images.photo import open_photo
from storage.images.probe import probe_size
from tests.storage.corpus import harmed
from tests.storage.images.test_encode import XMP, profile

END = b"\xff\xd9"
Y, X = np.mgrid[0:40, 0:56]


def smooth(bits: int, channels: int) -> NDArray[Any]:
    """An image without noise, (H, W) or (H, W, 3), over all the range."""
    bands = np.stack([X * (1 + c) + Y for c in range(channels)], axis=2) % 100 / 99 * ((1 << bits) - 1)
    return np.squeeze(bands.round()).astype(np.uint8 if bits <= 8 else np.uint16)


def lossless(bits: int, channels: int = 3) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(smooth(bits, channels), lossless=True, bitspersample=bits))


def twelve_bits(channels: int = 3) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(smooth(12, channels), level=98, bitspersample=12))


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    made = (bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return b"".join((jpeg[:2], *made, jpeg[2:]))


def said_of(data: bytes) -> str:
    """What is said of an image that is refused."""
    try:
        open_photo(data)
    except ImageError as error:
        return str(error)
    return ""


def pixels(data: bytes) -> NDArray[Any]:
    return np.squeeze(open_photo(data).pixels)


def full(values: NDArray[Any], bits: int) -> Any:
    return np.round(values.astype(float) * (255 if bits <= 8 else 65535) / ((1 << bits) - 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [2, 5, 8, 9, 10, 12, 15, 16])
def test_a_lossless_jpeg_keeps_its_samples(bits: int, channels: int) -> None:
    data = lossless(bits, channels)
    np.testing.assert_array_equal(pixels(data), full(smooth(bits, channels), bits))
    assert open_photo(data).format == "JPEG"
    assert probe_size(data) == (56, 40)
    assert (extent := codec.extent(data)) is not None
    assert extent.size == (40, 56)
    decoded = codec.decode(data) if channels == 3 else codec.decode(data)[..., 0]
    np.testing.assert_allclose(decoded, full(smooth(bits, channels), bits) / (1 if bits <= 8 else 257), atol=0.51)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_jpeg_ls_keeps_its_samples(bits: int, channels: int) -> None:
    values = smooth(bits, channels)
    encoded = bytes(imagecodecs.jpegls_encode(values))
    at = encoded.index(b"\xff\xf7") + 4
    used = encoded[at]  # the bits that the encoder has found in the samples
    np.testing.assert_array_equal(pixels(encoded), full(values, used))
    assert probe_size(encoded) == (56, 40)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_of_12_bits_has_the_whole_range(channels: int) -> None:
    data = twelve_bits(channels)
    error = np.abs(pixels(data) - full(smooth(12, channels), 12)).mean()
    assert error < 0.02 * 65535
    assert probe_size(data) == (56, 40)
    found = open_photo(data)
    assert found.notes == ()
    assert Encoding().encode(found, ".jpg", None).notes == ("12 bits became 8",)


KINDS = {
    "12 bits": twelve_bits(),
    "lossless": lossless(12),
    "JPEG-LS": bytes(imagecodecs.jpegls_encode(smooth(8, 3))),
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_what_a_rare_jpeg_carries_is_found_and_it_is_turned(data: bytes) -> None:
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x0110: "E 5"})
    icc = b"ICC_PROFILE\0\x01\x01" + profile()
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    turned = with_segments(data, (0xE1, exif.tobytes()), (0xE1, xmp), (0xE2, icc), (0xFE, b"by Jane"))
    found = open_photo(turned)
    np.testing.assert_array_equal(found.pixels, np.rot90(open_photo(data).pixels, -1))
    assert (found.carried.icc, found.carried.xmp) == (profile(), XMP)
    assert found.notes == ("comment left out",)
    assert probe_size(turned) == (40, 56)
    np.testing.assert_array_equal(codec.decode(turned), np.rot90(codec.decode(data), -1))


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_a_bomb_of_a_rare_kind_is_refused_before_it_goes_off(data: bytes) -> None:
    at = next(at for marker in (b"\xff\xc1", b"\xff\xc3", b"\xff\xf7") if (at := data.find(marker)) > 0) + 5
    began = time.process_time()
    for opening in (open_photo, codec.decode, probe_size):
        with pytest.raises(ImageError, match="65535×65535 is more than"):
            opening(data[:at] + b"\xff" * 4 + data[at + 4 :])
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("marker", "said"),
    [(0xC5, "a hierarchical JPEG"), (0xCB, "an arithmetically coded lossless JPEG"), (0xCF, "a hierarchical JPEG")],
)
def test_kinds_that_nobody_decodes_are_called_by_their_name(marker: int, said: str) -> None:
    data = lossless(8).replace(b"\xff\xc3", bytes((0xFF, marker)), 1)
    for opening in (open_photo, codec.decode, probe_size):
        with pytest.raises(ImageError, match=f"^{said}, which is not read; convert it$"):
            opening(data)


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_half_a_jpeg_of_a_rare_kind_is_refused_and_trailing_bytes_are_nothing(data: bytes) -> None:
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match=r"^broken image: "):
            open_photo(data[: int(len(data) * part)])
    np.testing.assert_array_equal(pixels(data + bytes(100)), pixels(data))


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_damaged_jpegs_of_rare_kinds_give_an_image_or_one_line(data: bytes) -> None:
    random = np.random.default_rng(0)
    for tried in harmed(data, random, 100):
        assert "\n" not in said_of(tried)


def encoded(**options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 56, 3)).astype(np.uint8))
    image.convert(options.pop("mode", "RGB")).save(buffer, "JPEG", **options)
    return buffer.getvalue()


WHOLE = {
    "baseline": encoded(),
    "progressive": encoded(progressive=True),
    "grey": encoded(mode="L"),
    "CMYK": encoded(mode="CMYK"),
    "restarts": encoded(restart_marker_blocks=2),
    "restarts in rows": encoded(restart_marker_rows=1),
    "thumbnail": with_segments(encoded(), (0xE1, b"other\0" + encoded(quality=5))),
    "12 bits": KINDS["12 bits"],
    "lossless": KINDS["lossless"],
    "JPEG-LS": KINDS["JPEG-LS"],
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(64)])
def test_a_jpeg_that_only_lacks_its_end_marker_is_read_with_a_note(data: bytes, tail: bytes) -> None:
    if tail == bytes(64) and b"\xff\xf7" in data:  # its decoder takes no more bytes than there are
        assert said_of(data[:-2] + tail).startswith("broken image: ")
        return
    found, whole = open_photo(data[:-2] + tail), open_photo(data)
    np.testing.assert_array_equal(found.pixels, whole.pixels)
    assert {*found.notes} == {*whole.notes, "no end marker"}
    np.testing.assert_array_equal(codec.decode(data[:-2] + tail), codec.decode(data))


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_jpeg_that_lacks_pixels_is_refused_wherever_it_ends(data: bytes) -> None:
    scan = data.rindex(b"\xff\xda" if b"\xff\xf7" not in data else b"\xff\xda\0\x0c") + 10
    step = max(1, (len(data) - scan) // 50)
    for length in (*range(scan, len(data) - 12, step), *range(len(data) - 40, len(data) - 12)):
        with pytest.raises(ImageError):
            open_photo(data[:length])
    for length in range(scan, len(data) - 200, step):
        with pytest.raises(ImageError):
            open_photo(data[:length] + bytes(5000))


def test_a_jpeg_cut_between_its_scans_or_at_a_restart_is_refused() -> None:
    progressive, restarts = WHOLE["progressive"], WHOLE["restarts"]
    ends = [at for at in range(len(progressive)) if progressive.startswith((b"\xff\xda", b"\xff\xc4"), at)]
    assert len(ends) > 10
    marks = [at for at in range(restarts.index(b"\xff\xda"), len(restarts) - 1) if restarts[at] == 0xFF]
    cut = [progressive[:at] for at in ends[1:]]
    cut += [restarts[:at] for at in marks if restarts[at + 1] & 0xF8 == 0xD0]
    for data in cut:
        with pytest.raises(ImageError):
            open_photo(data)


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_jpeg_that_lacks_pixels_is_refused_though_an_end_marker_follows(data: bytes) -> None:
    behind_thumbnail = int.from_bytes(data[4:6], "big") if data[3] == 0xE1 else 0
    scan = data.index(b"\xff\xda", behind_thumbnail) + 14
    for part in (0.1, 0.4, 0.6):
        half = data[: scan + int((len(data) - scan) * part)].rstrip(b"\xff") + END
        with pytest.raises(ImageError, match=r"^broken image: "):
            open_photo(half)
        with pytest.raises(ImageError, match=r"^broken image: "):
            codec.decode(half)


def test_a_grey_image_and_one_without_its_last_scans_are_whole() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (56, 40), (128, 128, 128)).save(buffer, "JPEG")
    assert open_photo(buffer.getvalue()).notes == ()
    scans = WHOLE["progressive"].rindex(b"\xff\xc4")
    assert open_photo(WHOLE["progressive"][:scans] + END).notes == ("some of its scans are missing",)


@pytest.mark.parametrize("tail", [b"", END])
def test_a_bomb_is_not_decoded_to_see_whether_it_is_whole(tail: bytes) -> None:
    large, at = WHOLE["baseline"], WHOLE["baseline"].index(b"\xff\xc0") + 5
    large = large[:at] + struct.pack(">HH", 20_000, 20_000) + large[at + 4 : -2]
    whole = WHOLE["12 bits"][:-2]
    scans = whole + whole[whole.rindex(b"\xff\xda") :] * 1001
    started = time.process_time()
    assert "pixels" in said_of(large + tail)
    assert "scans" in said_of(scans + tail)
    assert time.process_time() - started < 1


TAILS = [bytes(100), b"\0" * 3, b"more", b"\xff\xd8\xff\xe0 a second image, cut off", b"\xff\xda a film" + bytes(8)]


@pytest.mark.parametrize("tail", TAILS)
def test_bytes_behind_the_end_change_nothing(tail: bytes) -> None:
    found = open_photo(WHOLE["baseline"] + tail)
    assert found.notes == ()
