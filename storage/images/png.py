"""A PNG's chunks that tell what its colours mean: carried into a PNG as they are, noted where a format has none."""

import struct
import zlib
from collections.abc import Iterator

Chunks = tuple[tuple[bytes, bytes], ...]

SIGNATURE, HEAD = b"\x89PNG\r\n\x1a\n", struct.Struct(">I4s")
COLOUR = {b"cICP": 4, b"mDCV": 24, b"mDCv": 24, b"cLLI": 8, b"cLLi": 8, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
"""Their lengths; they stand before the pixels."""
SRGB_CODE = b"\x01\x0d\0\x01"
SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
PLAIN_GAMMA, ALIKE, NEAR = 45455, 1000, 200


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk as it is stored."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def colour_chunks(data: bytes) -> Chunks:
    """Those of a PNG, each once; none of anything else."""
    found: dict[bytes, bytes] = {}
    for kind, body in _before_pixels(data):
        if COLOUR.get(kind) == len(body):
            found.setdefault(kind, body)
    return tuple(found.items())


def lacks_its_end(data: bytes) -> bool:
    """Whether a PNG ends without the chunk that says so; decoders can do without."""
    end = chunk(b"IEND", b"")
    return data.startswith(SIGNATURE) and not data.endswith(end) and end not in data


def lost(chunks: Chunks, *, has_profile: bool) -> tuple[str, ...]:
    """Notes on what a format that has no such chunks does not say of the colours. A profile tells more than gamma."""
    found = dict(chunks)
    notes: list[str] = []
    code, gamma, primaries = found.get(b"cICP", SRGB_CODE), found.get(b"gAMA"), found.get(b"cHRM")
    if code != SRGB_CODE:
        notes.append(f"cICP colour space left out: primaries {code[0]}, transfer {code[1]}")
    if found.keys() & {b"mDCV", b"mDCv", b"cLLI", b"cLLi"}:
        notes.append("HDR mastering data left out")
    if has_profile or found.keys() & {b"sRGB", b"cICP"}:
        return tuple(notes)
    if gamma and abs(int.from_bytes(gamma, "big") - PLAIN_GAMMA) > ALIKE:
        notes.append(f"gamma of {int.from_bytes(gamma, 'big') / 100_000:g} left out")
    if primaries and not _are_srgb(struct.unpack(">8I", primaries)):
        notes.append("primaries of the colours left out (cHRM)")
    return tuple(notes)


def _are_srgb(primaries: tuple[int, ...]) -> bool:
    return all(abs(told - plain) <= NEAR for told, plain in zip(primaries, SRGB_PRIMARIES, strict=True))


def _before_pixels(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE) if data.startswith(SIGNATURE) else len(data)
    while place + 12 <= len(data):
        length, kind = HEAD.unpack_from(data, place)
        if kind == b"IDAT":
            return
        if kind in COLOUR and length == COLOUR[kind]:
            body = data[place + 8 : place + 8 + length]
            if data[place + 8 + length : place + 12 + length] == struct.pack(">I", zlib.crc32(kind + body)):
                yield kind, body
        place += 12 + length
