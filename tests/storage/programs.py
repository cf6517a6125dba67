"""Other programs that look at a result: exiftool, one process for all tests, and vips."""

import atexit
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

END = b"{ready18}\n"
VIPS_FORMATS = {8: 0, 16: 2}
"""The number by which vips's own files say that samples are unsigned and have so many bits."""


def program(name: str, package: str) -> str:
    """The program, or a skipped test that says what to install."""
    if not (path := shutil.which(name)):
        pytest.skip(f"wants {name}: apt-get install {package}")
    return path


@cache
def _exiftool() -> subprocess.Popen[bytes]:
    """A process that takes one command after the other; starting Perl takes longer than any of them."""
    command = [program("exiftool", "libimage-exiftool-perl"), "-stay_open", "True", "-@", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.communicate, b"-stay_open\nFalse\n")
    return process


def exiftool(*arguments: str) -> bytes:
    """What exiftool prints for a command."""
    process = _exiftool()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n".join([*arguments, "-execute18", ""]).encode())
    process.stdin.flush()
    printed = b""
    while not printed.endswith(END):
        more = os.read(process.stdout.fileno(), 2**16)
        assert more, f"exiftool ended: {printed!r}"
        printed += more
    return printed.removesuffix(END)


def seen_by_exiftool(path: Path) -> dict[str, Any]:
    tags: dict[str, Any] = json.loads(exiftool("-j", "-n", "-G1", str(path)))[0]
    assert "ExifTool:Error" not in tags
    assert "ExifTool:Warning" not in tags
    return tags


def seen_by_vips(path: Path, channels: int, depth: int) -> NDArray[Any]:
    """The pixels (H, W, channels) as vips decodes them."""
    own = path.with_suffix(".v")
    subprocess.run([program("vips", "libvips-tools"), "copy", path, own], check=True, capture_output=True)
    data = own.read_bytes()
    width, height, bands, _, form = np.frombuffer(data, "<i4", 5, offset=4)
    assert (bands, form) == (channels, VIPS_FORMATS[depth])
    samples = np.frombuffer(data, np.uint8 if depth == 8 else np.uint16, width * height * bands, offset=64)
    return samples.reshape(height, width, channels)
