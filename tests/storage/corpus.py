"""Hostile images, made from a real one by a seeded generator: the same bytes every time.

Whole files in every format and mode are damaged in many ways; to these come files whose headers lie, and bombs.
"""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

Named = Iterator[tuple[str, bytes]]


def corpus(image: Image.Image) -> dict[str, bytes]:
    """Hostile files by name."""
    return dict(chain(_damaged(whole_files(image)), _pngs(), _jpegs(image), _tiffs(), _others(image)))


def largest(image: Image.Image) -> dict[str, bytes]:
    """Small files of nearly as many pixels as are let in, by name."""
    side = 13_000
    files = {"16-bit.png": png(side, side, (b"IDAT", zeros(side * (2 * side + 1))), depth=16, colour=0)}
    for kind, marker in (("baseline", b"\xff\xc0"), ("progressive", b"\xff\xc2")):
        whole = encoded(image, "JPEG", progressive=kind == "progressive")
        at = whole.index(marker) + 5
        files[f"{kind}.jpg"] = whole[:at] + struct.pack(">HH", side, side) + whole[at + 4 :]
    webp = encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)])
    at, size = webp.index(b"VP8X") + 12, (side - 1).to_bytes(3, "little")
    return files | {"canvas.webp": webp[:at] + size + size + webp[at + 6 :]}


def many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG that goes over all its pixels again and again, at eleven bytes a time."""
    whole = encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:end] + (whole[last : last + 10] + b"\0") * count + whole[end:]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def whole_files(image: Image.Image) -> dict[str, bytes]:
    """An image in the formats and modes that are read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pages: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    grey = image.convert("L")
    return {
        "rgb.png": encoded(image, "PNG", exif=exif),
        "rgba.png": encoded(image.convert("RGBA"), "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG", transparency=3),
        "16-bit.png": encoded(grey.convert("I;16"), "PNG"),
        "animated.png": encoded(image, "PNG", **pages),
        "baseline.jpg": encoded(image, "JPEG", exif=exif),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "lossy.webp": encoded(image, "WEBP"),
        "lossless.webp": encoded(image.convert("RGBA"), "WEBP", lossless=True),
        "animated.webp": encoded(image, "WEBP", **pages),
        "raw.tif": encoded(image, "TIFF"),
        "deflate.tif": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "lzw.tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(image, "TIFF", compression="jpeg"),
        "fax.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "pages.tif": encoded(image, "TIFF", **pages),
        "rgb.bmp": encoded(image, "BMP"),
        "palette.bmp": encoded(image.quantize(16), "BMP"),
        "plain.gif": encoded(image, "GIF"),
        "animated.gif": encoded(image, "GIF", **pages),
    }


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file damaged in one of many ways."""
    at, length = chance.randrange(len(data)), chance.randrange(1, 64)
    changed = bytearray(data)
    match chance.randrange(6):
        case 0:
            return data[:at]
        case 1:
            changed[min(at, chance.randrange(1, 200)) % len(data)] ^= 1 << chance.randrange(8)
        case 2:
            for _ in range(length):
                changed[chance.randrange(len(data))] = chance.randrange(256)
        case 3:
            changed[at : at + length] = bytes([chance.choice((0, 0xFF))]) * length
        case 4:
            del changed[at : at + length]
        case _:
            changed[at:at] = data[at : at + length]
    return bytes(changed)


def harmed(whole: bytes, random: np.random.Generator, count: int) -> Iterator[bytes]:
    """A file cut off, and with one byte changed, at each of so many places."""
    for place in random.integers(len(whole), size=count).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 0xA5
        yield whole[:place]
        yield bytes(damaged)


def _damaged(whole: dict[str, bytes]) -> Named:
    chance = random.Random(20_261_121)
    for name, data in whole.items():
        for number in range(14):
            yield f"damaged-{number:02}-{name}", mutated(data, chance)


def png(
    width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2, interlaced: bool = False
) -> bytes:
    """A PNG of this header and these chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [_chunk(kind, data) for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(count: int) -> bytes:
    """So many zeros, deflated: one piece again and again, and the sum that zlib takes of them all."""
    packer = zlib.compressobj()
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    pieces, left = divmod(count, 2**20)
    return piece + piece[2:] * (pieces - 1) + _deflated(bytes(left)) + struct.pack(">HH", count % 65_521, 1)


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _pngs() -> Named:
    small = (b"IDAT", zlib.compress(bytes(9 * 25)))
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (0, 0), (13_000, 13_000)):
        yield f"lies-{width}x{height}.png", png(width, height, small)
    yield "bomb-over-the-bound.png", png(60_000, 60_000, (b"IDAT", zeros(60_000 * 7_501)), depth=1, colour=0)
    for name, depth, colour, per_pixel in (
        ("grey", 8, 0, 1),
        ("16-bit", 16, 0, 2),
        ("rgb", 8, 2, 3),
        ("rgba", 8, 6, 4),
    ):
        packed = zeros(4000 * (4000 * per_pixel + 1))
        yield f"bomb-{name}.png", png(4000, 4000, (b"IDAT", packed), depth=depth, colour=colour)
    yield "bomb-behind-the-pixels.png", png(8, 8, (b"IDAT", zeros(2**29)))
    for kind, start in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        yield f"bomb-{kind.decode()}.png", png(8, 8, (kind, start + zeros(2**28)), small)
    yield "many-texts.png", png(8, 8, *[(b"tEXt", b"a\0b")] * 50_000, small)
    whole = png(8, 8, small)
    for length in (2**31 - 1, 2**32 - 1):
        at = whole.index(b"IDAT") - 4
        yield f"chunk-of-{length}.png", whole[:at] + struct.pack(">I", length) + whole[at + 4 :]
    yield "no-end.png", whole[:-12]
    yield "endless-palette.png", png(8, 8, (b"PLTE", bytes(3 * 5000)), small, colour=3)


def _jpegs(image: Image.Image) -> Named:
    for kind, marker in (("baseline", b"\xff\xc0"), ("progressive", b"\xff\xc2")):
        whole = encoded(image, "JPEG", progressive=kind == "progressive")
        at = whole.index(marker) + 5
        for side in (65_535, 0):
            yield f"lies-{side}-{kind}.jpg", whole[:at] + struct.pack(">HH", side, side) + whole[at + 4 :]
    whole = encoded(image, "JPEG")
    yield "many-comments.jpg", whole[:2] + b"\xff\xfe\x00\x04ab" * 50_000 + whole[2:]
    yield (
        "exif-of-nonsense.jpg",
        whole[:2] + b"\xff\xe1\xff\xffExif\0\0MM\0\x2a\0\0\0\x08" + b"\xff" * 65_519 + whole[2:],
    )
    yield "end-at-once.jpg", whole[:2] + b"\xff\xd9"


def tiff(*tags: tuple[int, int, int, int], more: int = 0, count: int | None = None, tail: bytes = b"") -> bytes:
    """A TIFF of one directory; tags are (number, type, count, value), `more` says where the next directory is."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    said = len(tags) if count is None else count
    return b"II*\0\x08\0\0\0" + struct.pack("<H", said) + entries + struct.pack("<I", more) + tail


def _tiffs() -> Named:
    short, long = 3, 4

    def grey(width: int = 8, height: int = 8, *others: tuple[int, int, int, int], **rest: Any) -> bytes:
        usual = [(256, long, 1, width), (257, long, 1, height), (258, short, 1, 8), (259, short, 1, 1)]
        usual += [(262, short, 1, 1), (273, long, 1, 8), (277, short, 1, 1), (278, long, 1, height)]
        usual += [(279, long, 1, width * height % 2**32)]
        replaced = {tag[0] for tag in others}
        return tiff(*others, *(tag for tag in usual if tag[0] not in replaced), **rest)

    for width, height in ((60_000, 60_000), (2**32 - 1, 2**32 - 1), (13_000, 13_000), (0, 0)):
        yield f"lies-{width}x{height}.tif", grey(width, height)
    yield "directory-of-65535.tif", grey(count=65_535)
    yield "directory-in-itself.tif", grey(more=8, tail=bytes(64))
    yield "directory-nowhere.tif", grey(more=2**32 - 1)
    for number, name in ((273, "offsets"), (279, "lengths"), (258, "bits"), (320, "palette"), (33432, "text")):
        yield f"endless-{name}.tif", grey(8, 8, (number, long, 2**32 - 1, 8))
        yield f"nowhere-{name}.tif", grey(8, 8, (number, long, 1000, 2**32 - 8))
    yield "strips-nowhere.tif", grey(8, 8, (273, long, 1, 2**32 - 1))
    yield "many-samples.tif", grey(8, 8, (277, short, 1, 65_535))
    for compression in (2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001, 65535):
        yield f"compression-{compression}.tif", grey(8, 8, (259, short, 1, compression), tail=b"\xff" * 99)
    packed = zeros(4000 * 4000)
    whole = grey(4000, 4000, (259, short, 1, 8), (273, long, 1, 200), (279, long, 1, len(packed)))
    yield "bomb.tif", whole.ljust(200, b"\0") + packed
    tiles = ((322, long, 1, 2**31), (323, long, 1, 2**31), (324, long, 1, 8), (325, long, 1, 64))
    yield "endless-tiles.tif", grey(8, 8, *tiles)


def _others(image: Image.Image) -> Named:
    gif = encoded(image, "GIF")
    yield "lies-65535.gif", gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:]
    frame = gif.index(b"\x2c", 13 + 3 * 2 ** ((gif[10] & 7) + 1)) + 1
    yield "frame-beyond.gif", gif[:frame] + struct.pack("<4H", 65_000, 65_000, 65_535, 65_535) + gif[frame + 8 :]
    yield "many-frames.gif", gif[:-1] + gif[frame - 1 : -1] * 300 + gif[-1:]
    yield "many-comments.gif", gif[: frame - 1] + b"\x21\xfe\x01a\0" * 50_000 + gif[frame - 1 :]

    bmp = encoded(image, "BMP")
    for width, height in ((60_000, 60_000), (13_000, 13_000), (2**31 - 1, -(2**31)), (-1, -1), (0, 0)):
        yield f"lies-{width}x{height}.bmp", bmp[:18] + struct.pack("<ii", width, height) + bmp[26:]
    runs = encoded(image.quantize(16), "BMP")
    for side, compression in ((64, 1), (8000, 1), (8000, 2)):
        header = runs[:18] + struct.pack("<iiHHI", side, side, 1, 8 // compression, compression) + runs[34:]
        yield (
            f"runs-{compression}-{side}.bmp",
            header[:1100].ljust(1100, b"\0") + b"\xff\x01" * 2000 + b"\0\2\xff\xff" * 2000,
        )
    yield "offset-nowhere.bmp", bmp[:10] + b"\xff\xff\xff\xff" + bmp[14:]
    yield "endless-palette.bmp", runs[:46] + b"\xff\xff\xff\xff" + runs[50:]

    frames: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(90)]}
    webp = encoded(image, "WEBP", **frames)
    canvas = webp.index(b"VP8X") + 12
    for side in (2**24, 16_384):
        size = (side - 1).to_bytes(3, "little")
        yield f"lies-{side}.webp", webp[:canvas] + size + size + webp[canvas + 6 :]
    yield "size-of-4-gb.webp", webp[:4] + b"\xff\xff\xff\xff" + webp[8:]
    yield "chunk-of-4-gb.webp", webp[: canvas - 4] + b"\xf6\xff\xff\xff" + webp[canvas:]
