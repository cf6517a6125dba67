"""torchvision can be imported beside any build of torch, however often one asks."""

import subprocess
import sys

import pytest

IMPORTS = """
from dtls.compat import allow_torchvision_import
allow_torchvision_import()
allow_torchvision_import.cache_clear()
allow_torchvision_import()
import torchvision
assert torchvision.models.alexnet().features[0].out_channels == 64
allow_torchvision_import.cache_clear()
allow_torchvision_import()
print(torchvision.__version__)
"""


@pytest.mark.slow
def test_torchvision_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0.")
