"""What an image takes on its way, and what is kept of it."""

import subprocess
import sys

import pytest

from dtls.inference.degrade import Downscaling
from dtls.inference.interpolation import Interpolation
from dtls.inference.method import Method
from flows.transform.memory import PRIMITIVES, needed
from storage.images.extents import Extent
from tests.services import isolated_environment

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
CONVOLVED = """
import torch
from flows.transform.memory import keep_little
keep_little()
for side in range(8, 208):
    torch.conv2d(torch.rand(1, 8, side, side), torch.rand(8, 8, 3, 3))
for side in range(8, 208):
    torch.conv2d(torch.rand(1, 8, side, side), torch.rand(8, 8, 3, 3))
"""


def test_a_long_narrow_image_is_known_to_have_large_matrices() -> None:
    narrow, method = Extent(8, 64_000, 3, 1, 0), Downscaling("antialias")
    assert needed(narrow, (4, 32_000), method) > 8 * 64_000**2
    assert needed(narrow, (16, 128_000), Interpolation("bicubic")) < 10**8


@pytest.mark.parametrize("method", [Interpolation("bicubic"), Downscaling("reference")])
def test_an_image_needs_what_its_decoding_takes_at_least(method: Method) -> None:
    assert needed(Extent(8, 8, 4, 1, 10**9), (4, 4), method) == pytest.approx(10**9, rel=1e-3)


@pytest.mark.slow
def test_what_layers_are_made_into_is_forgotten_in_time() -> None:
    """oneDNN tells of all that it makes: what was kept is not made again."""

    def made(capacity: str) -> int:
        environment = isolated_environment({"ONEDNN_VERBOSE": "2", "OMP_NUM_THREADS": "1"})
        environment.pop(CAPACITY, None)  # an upscaling in this process may have set it
        environment |= {CAPACITY: capacity} if capacity else {}
        done = subprocess.run([sys.executable, "-c", CONVOLVED], env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return done.stdout.count("create:cache_miss")

    few = made("")
    assert few > PRIMITIVES
    assert few > 1.5 * made("10000")
