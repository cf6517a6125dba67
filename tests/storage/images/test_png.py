"""What a PNG says of its colours goes into PNGs as it is; other formats have a note on what matters of it."""

import struct
import subprocess
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from storage.images.encode import Encoding
from storage.images.photo import open_photo
from storage.images.png import Chunks, colour_chunks
from tests.storage.images.test_encode import STAMP, profile
from tests.storage.images.test_photo import with_chunks
from tests.storage.programs import program, seen_by_exiftool

PQ = (b"cICP", b"\x09\x10\0\x01")
P3 = (b"cICP", b"\x0c\x0d\0\x01")
MASTERING = (b"mDCV", struct.pack(">8H2I", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10_000_000, 50))
LIGHT = (b"cLLI", struct.pack(">II", 10_000_000, 4_000_000))
ADOBE = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
USUAL = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
GAMMA, LINEAR = (b"gAMA", struct.pack(">I", 45455)), (b"gAMA", struct.pack(">I", 100_000))
SRGB = (b"sRGB", b"\0")
PRIMARIES = "primaries of the colours left out (cHRM)"
HDR = "HDR mastering data left out"
CASES: list[tuple[Chunks, tuple[str, ...]]] = [
    ((PQ, MASTERING, LIGHT), ("cICP colour space left out: primaries 9, transfer 16", HDR)),
    ((P3,), ("cICP colour space left out: primaries 12, transfer 13",)),
    ((LIGHT,), (HDR,)),
    (((b"cICP", b"\x01\x0d\0\x01"),), ()),
    ((GAMMA, ADOBE), (PRIMARIES,)),
    ((LINEAR, ADOBE), ("gamma of 1 left out", PRIMARIES)),
    ((GAMMA, USUAL), ()),
    ((SRGB, GAMMA, USUAL), ()),
]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("chunks", "notes"), CASES)
def test_colour_chunks_are_carried_or_noted(
    chunks: Chunks, notes: tuple[str, ...], depth: int, tmp_path: Path
) -> None:
    plain = bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), f"uint{depth}")))
    found = open_photo(with_chunks(plain, *chunks))
    assert found.notes == ()
    path = tmp_path / "a.png"
    result = Encoding().encode(found, ".png", STAMP)
    path.write_bytes(result.data)
    assert colour_chunks(result.data) == chunks
    assert result.notes == ()
    if depth == 8:
        seen_by_exiftool(path)
        command = [program("vips", "libvips-tools"), "avg", str(path)]
        assert subprocess.run(command, check=True, capture_output=True).stderr == b""
    for suffix in (".jpg", ".webp", ".tif"):
        kept = [note for note in Encoding().encode(found, suffix, None).notes if "bits" not in note]
        assert tuple(kept) == notes


def test_a_profile_tells_more_than_gamma_and_primaries_and_less_than_cicp() -> None:
    plain = bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint8)))
    icc = (b"iCCP", b"a\0\0" + zlib.compress(profile()))
    found = open_photo(with_chunks(plain, icc, LINEAR, ADOBE))
    assert Encoding().encode(found, ".jpg", None).notes == ()
    assert open_photo(Encoding().encode(found, ".png", None).data).carried == found.carried
    wide = open_photo(with_chunks(plain, icc, PQ))
    assert len(Encoding().encode(wide, ".jpg", None).notes) == 1


def test_damaged_chunks_and_those_behind_the_pixels_are_not_carried() -> None:
    plain = bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint8)))
    whole = with_chunks(plain, PQ)
    damaged = whole.replace(PQ[1], b"\x09\x10\0\0")
    assert colour_chunks(whole) == (PQ,)
    for data in (damaged, with_chunks(plain, (b"cICP", b"\x09")), plain, b"", b"\xff\xd8", plain[:20]):
        assert colour_chunks(data) == ()
    assert colour_chunks(with_chunks(plain, PQ, P3)) == (PQ,)
