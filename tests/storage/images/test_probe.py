"""Headers: the size that decoding would give, in microseconds, and nothing but an `ImageError` for what is none.

Whatever `probe_size` refuses, `decode` refuses too, and where both take an image they agree on its size.
"""

import io
import random
import struct
import time
import zlib
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storage.images import decode as codec
from storage.images import formats
from storage.images.formats import ImageError
from storage.images.probe import probe_size

WIDTH, HEIGHT = 37, 21
ORIENTATION = 0x0112


def noise(mode: str = "RGB", width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    bands = Image.frombytes("CMYK", (width, height), random.Random(0).randbytes(4 * width * height))
    return bands if mode == "CMYK" else bands.convert("RGB").convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded_size(data: bytes) -> tuple[int, int]:
    height, width = codec.decode(data).shape[:2]
    return width, height


def outcome(data: bytes) -> tuple[int, int] | None:
    """The measured size, or None where it is refused; no decoding disagrees with either."""
    try:
        decoded = decoded_size(data)
    except ImageError:
        decoded = None
    try:
        size = probe_size(data)
    except ImageError as error:
        said = str(error)
        assert "\n" not in said
        assert decoded is None or said == "broken image: cut off"
        return None
    assert decoded in (None, size)
    return size


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """An EXIF segment's content: an orientation, and in its second directory a thumbnail."""
    entries = struct.pack(">HHHIHHI", 1, ORIENTATION, 3, 1, orientation, 0, 26 if thumbnail else 0)
    if thumbnail:
        entries += struct.pack(">HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
    return b"Exif\0\0MM\0*\0\0\0\x08" + entries + thumbnail


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def frame_at(jpeg: bytes) -> int:
    return next(at for marker in (0xC0, 0xC2) if (at := jpeg.find(b"\xff" + bytes([marker]) + b"\0")) > 0)


def before_frame(jpeg: bytes, *inserted: bytes) -> bytes:
    at = frame_at(jpeg)
    return jpeg[:at] + b"".join(inserted) + jpeg[at:]


def before_scan(jpeg: bytes, *inserted: bytes) -> bytes:
    at = jpeg.index(b"\xff\xda\0")
    return jpeg[:at] + b"".join(inserted) + jpeg[at:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    *chunks: bytes, width: int = WIDTH, height: int = HEIGHT, depth: int = 8, colour: int = 2, how: int = 0
) -> bytes:
    """A PNG of these chunks after its header, and before its end."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, how))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND")


def pixels(depth: int = 8, channels: int = 3) -> bytes:
    """The data of a PNG, all zeros."""
    return chunk(b"IDAT", zlib.compress(bytes(HEIGHT * (1 + (WIDTH * depth * channels + 7) // 8))))


def interlaced() -> bytes:
    """Seven passes over a grey image, as Adam7 has it."""
    passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
    rows = b""
    for left, across, top, down in passes:
        rows += bytes(1 + len(range(left, WIDTH, across))) * len(range(top, HEIGHT, down))
    return png(chunk(b"IDAT", zlib.compress(rows)), colour=0, how=1)


PNGS = {
    "grey": encoded(noise("L"), "PNG"),
    "bilevel": encoded(noise("1"), "PNG"),
    "RGB": encoded(noise(), "PNG"),
    "RGBA": encoded(noise("RGBA"), "PNG"),
    "grey with alpha": encoded(noise("LA"), "PNG"),
    "palette": encoded(noise("P"), "PNG"),
    "palette of 4 bits": encoded(noise().quantize(16), "PNG", bits=4),
    "palette with transparency": encoded(noise("P"), "PNG", transparency=3),
    "16 bits": encoded(Image.new("I;16", (WIDTH, HEIGHT), 1000), "PNG"),
    "16 bits, RGB": png(pixels(16), depth=16),
    "16 bits, RGBA": png(pixels(16, 4), depth=16, colour=6),
    "2 bits": png(pixels(2, 1), depth=2, colour=0),
    "interlaced": interlaced(),
    "text and profile": png(chunk(b"tEXt", b"Software\0theirs"), chunk(b"gAMA", b"\0\0\xb1\x8f"), pixels()),
    "in small chunks": png(
        *(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(bytes(HEIGHT * (1 + 3 * WIDTH))))
    ),
    "several images": encoded(noise(), "PNG", save_all=True, append_images=[noise("L").convert("RGB")]),
    "trailing bytes": encoded(noise(), "PNG") + b"more",
    "trailing end": encoded(noise(), "PNG") + chunk(b"IEND"),
}
PLAIN, PROGRESSIVE = encoded(noise(), "JPEG"), encoded(noise(), "JPEG", progressive=True)
THUMBNAIL = encoded(noise("RGB", 16, 8), "JPEG")
JPEGS = {
    "baseline": PLAIN,
    "progressive": PROGRESSIVE,
    "grey": encoded(noise("L"), "JPEG"),
    "CMYK": encoded(noise("CMYK"), "JPEG"),
    "4:4:4": encoded(noise(), "JPEG", subsampling=0),
    "restart markers": encoded(noise(), "JPEG", restart_marker_blocks=1),
    "ICC profile": encoded(noise(), "JPEG", icc_profile=bytes(70_000)),
    "comments and unknown segments": before_frame(PLAIN, segment(0xFE, b"hello"), segment(0xED, bytes(40_000))),
    "a segment that looks like a frame": before_frame(PLAIN, segment(0xEC, THUMBNAIL[frame_at(THUMBNAIL) :])),
    "a thumbnail in JFIF's own segment": before_frame(PLAIN, segment(0xE0, b"JFXX\0\x10" + THUMBNAIL)),
    "a comment after the frame": before_scan(PLAIN, segment(0xFE, b"\xff\xc0\0\x11\x08\0\x01\0\x01\x03\xff\xd9")),
    "fill bytes before the frame": before_frame(PLAIN, b"\xff"),
    "many fill bytes": before_scan(before_frame(PLAIN, b"\xff" * 1000), b"\xff" * 3),
    "fill bytes at once": PLAIN[:2] + b"\xff\xff" + PLAIN[2:],
    "trailing bytes": PLAIN + b"\0" * 100,
    "trailing image": PLAIN + THUMBNAIL,
    "several images": encoded(noise(), "MPO", save_all=True, append_images=[noise("RGB", 8, 8)]),
}
OTHERS = {
    "WebP": encoded(noise(), "WEBP"),
    "WebP without loss": encoded(noise("RGBA"), "WEBP", lossless=True),
    "WebP moving": encoded(noise(), "WEBP", save_all=True, append_images=[noise("L").convert("RGB")]),
    "TIFF": encoded(noise(), "TIFF"),
    "TIFF with LZW": encoded(noise("L"), "TIFF", compression="tiff_lzw"),
    "TIFF as JPEG": encoded(noise(), "TIFF", compression="jpeg"),
    "TIFF of pages": encoded(noise(), "TIFF", save_all=True, append_images=[noise("RGB", 5, 5)]),
    "BMP": encoded(noise(), "BMP"),
    "BMP palette": encoded(noise("P"), "BMP"),
    "GIF": encoded(noise("P"), "GIF"),
    "GIF moving": encoded(noise("P"), "GIF", save_all=True, append_images=[noise("L").convert("P")]),
}
KINDS = {
    f"{kind}, {name}": data
    for kind, all_ in (("PNG", PNGS), ("JPEG", JPEGS), ("", OTHERS))
    for name, data in all_.items()
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_the_size_is_that_of_the_decoded_image(data: bytes) -> None:
    assert probe_size(data) == decoded_size(data) == (WIDTH, HEIGHT)


def turned_images(orientation: int) -> dict[str, bytes]:
    """Images that say how they are turned, each in its way."""
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(orientation).decode())
    tag = Image.Exif()
    tag[ORIENTATION] = orientation
    profile = exif(orientation)
    raw = b"Raw profile type exif\0" + f"\nexif\n{len(profile):8}\n{profile.hex()}\n".encode()
    to_come = segment(0xE1, profile)
    return {
        "JPEG": before_frame(PLAIN, to_come),
        "JPEG, after the frame": before_scan(PLAIN, to_come),
        "JPEG, progressive": before_frame(PROGRESSIVE, to_come),
        "JPEG, with a thumbnail": before_frame(PLAIN, segment(0xE1, exif(orientation, THUMBNAIL))),
        "JPEG, after fill bytes": before_frame(PLAIN, b"\xff\xff", to_come),
        "JPEG, by XMP": before_frame(PLAIN, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(orientation))),
        "JPEG, in its second EXIF": before_frame(PLAIN, segment(0xE1, b"other\0"), to_come),
        "JPEG, with trailing bytes": before_frame(PLAIN, to_come) + b"more",
        "PNG": encoded(noise(), "PNG", exif=tag),
        "PNG, after the pixels": png(pixels(), chunk(b"eXIf", profile[6:])),
        "PNG, by XMP": encoded(noise(), "PNG", pnginfo=info),
        "PNG, by ImageMagick's text": png(chunk(b"tEXt", raw), pixels()),
        "WebP": encoded(noise(), "WEBP", exif=tag),
        "TIFF": encoded(noise(), "TIFF", exif=tag),
    }


@pytest.mark.parametrize("orientation", range(10))
def test_the_size_is_that_of_the_upright_image(orientation: int) -> None:
    lies = orientation in (5, 6, 7, 8)
    for name, data in turned_images(orientation).items():
        assert probe_size(data) == decoded_size(data), name
        assert probe_size(data) == ((HEIGHT, WIDTH) if lies else (WIDTH, HEIGHT)), name


TRUNCATED = {
    "PNG": encoded(noise("L", 9, 5), "PNG"),
    "PNG, turned": encoded(noise("L", 9, 5), "PNG", exif=b"Exif\0\0" + exif(6)[6:]),
    "JPEG": encoded(noise("L", 9, 5), "JPEG"),
    "JPEG, progressive": encoded(noise("RGB", 9, 5), "JPEG", progressive=True),
    "JPEG, with a thumbnail": before_frame(encoded(noise("L", 9, 5), "JPEG"), segment(0xE1, exif(6, THUMBNAIL))),
    "JPEG, with ends in comments": before_scan(
        before_frame(encoded(noise("L", 9, 5), "JPEG"), segment(0xFE, b"\xff\xd9")),
        segment(0xFE, b"\xff\xd9"),
        segment(0xE1, b"\xff\xd9"),
    ),
    "WebP": encoded(noise("RGB", 9, 5), "WEBP"),
    "BMP": encoded(noise("RGB", 8, 5), "BMP"),
}


@pytest.mark.parametrize("data", TRUNCATED.values(), ids=TRUNCATED)
def test_an_image_cut_anywhere_but_in_a_jpeg_s_end_marker_is_refused(data: bytes) -> None:
    assert probe_size(data)
    taken = [length for length in range(len(data)) if outcome(data[:length])]
    only_its_end = [len(data) - 2, len(data) - 1] if data.endswith(b"\xff\xd9") else []
    assert taken == only_its_end


CLAIMS = ((0, 10), (10, 0), (0, 0), (60_000, 60_000), (2**16 - 1, 2**16 - 1))


def claiming(width: int, height: int) -> dict[str, bytes]:
    """Images that say they are of this size."""
    at, webp, bmp = frame_at(PLAIN) + 5, OTHERS["WebP"], OTHERS["BMP"]
    gif, tiff = OTHERS["GIF"], bytearray(OTHERS["TIFF"])
    for tag, value in ((256, width), (257, height)):
        entry = struct.pack("<HH", tag, 4)
        place = next(p for kind in (3, 4) if (p := tiff.find(struct.pack("<HHI", tag, kind, 1))) > 0)
        tiff[place : place + 12] = entry + struct.pack("<II", 1, value)
    frame = struct.pack(">HH", height, width)
    return {
        "PNG": png(pixels(), width=width, height=height),
        "JPEG": PLAIN[:at] + frame + PLAIN[at + 4 :],
        "JPEG, turned": before_frame(PLAIN[:at] + frame + PLAIN[at + 4 :], segment(0xE1, exif(6))),
        "GIF": gif.replace(struct.pack("<HH", WIDTH, HEIGHT), struct.pack("<HH", width, height)),
        "BMP": bmp[:18] + struct.pack("<ii", width, height) + bmp[26:],
        "TIFF": bytes(tiff),
        "WebP": webp[:26] + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF) + webp[30:],
    }


@pytest.mark.parametrize("size", CLAIMS, ids=map(str, CLAIMS))
def test_sizes_of_nothing_and_of_bombs_are_refused_without_decoding(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # by our own bound, not Pillow's
    for name, data in claiming(*size).items():
        if name == "WebP" and max(size) > 0x3FFF:  # its header has no room for so many
            continue
        started = time.process_time()
        with pytest.raises(ImageError):
            probe_size(data)
        assert time.process_time() - started < 0.2, name


def test_the_largest_size_is_let_in_and_the_next_is_not() -> None:
    side = int(formats.MAX_PIXELS**0.5)
    assert probe_size(png(pixels(), width=side, height=side)) == (side, side)
    with pytest.raises(ImageError, match="more than 178,956,970 pixels"):
        probe_size(png(pixels(), width=side + 1, height=side + 1))


def test_a_header_whose_sum_is_wrong_is_not_believed() -> None:
    whole = PNGS["RGB"]
    for place in range(8, 33):
        assert outcome(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]) is None, place


def test_a_jpeg_of_a_kind_that_cannot_be_decoded_is_refused() -> None:
    at = frame_at(PLAIN)
    for place, value in ((4, 11), (9, 2), (1, 0xC3), (1, 0xC5)):
        data = PLAIN[: at + place] + bytes([value]) + PLAIN[at + place + 1 :]
        assert outcome(data) is None, (place, value)


def test_it_takes_microseconds_however_large_the_image_is() -> None:
    image = Image.effect_noise((1024, 1024), 64).convert("RGB")
    for data in (encoded(image, "PNG", compress_level=0), encoded(image, "JPEG", quality=95)):
        started = time.process_time()
        for _ in range(100):
            assert probe_size(data) == (1024, 1024)
        assert time.process_time() - started < 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    data=st.binary(max_size=300), start=st.sampled_from((b"", PLAIN[:20], PNGS["RGB"][:33], b"II*\0", b"RIFF", b"BM"))
)
def test_whatever_the_bytes_are_they_are_measured_or_refused(data: bytes, start: bytes) -> None:
    for end in (b"", b"\xff\xd9", chunk(b"IEND")):
        outcome(start + data + end)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "kind", [*(f"PNG, {n}" for n in PNGS), *(f"JPEG, {n}" for n in JPEGS), *(f", {n}" for n in OTHERS)]
)
def test_mutated_images_are_measured_as_they_decode_or_refused(kind: str) -> None:
    generator, whole = random.Random(kind), KINDS[kind]
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            place = generator.choice((generator.randrange(len(data)), generator.randrange(min(200, len(data)))))
            data[place] = generator.choice(
                (generator.randrange(256), 0xFF, 0, data[place] ^ 1 << generator.randrange(8))
            )
        if generator.random() < 0.3:
            start = generator.randrange(len(data))
            del data[start : start + generator.randrange(20)]
        outcome(bytes(data))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_pieces_of_images_put_together_are_measured_or_refused() -> None:
    generator, whole = random.Random(0), list(chain(KINDS.values(), turned_images(6).values()))
    for _ in range(1000):
        first, second = generator.choices(whole, k=2)
        outcome(first[: generator.randrange(len(first))] + second[generator.randrange(len(second)) :])
