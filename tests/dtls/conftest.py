"""What the authors' code computed, our model with their weights, and real images as tensors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.authors_checkpoint import import_checkpoint
from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.models.dtls import DTLS

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Compute in one thread: on networks this small, a second one on a busy machine only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def authors_pt() -> Path:
    """A checkpoint that the authors' code wrote."""
    return DATA / "dtls_reference_32.pt"


@pytest.fixture(scope="session")
def expected() -> dict[str, Tensor]:
    """What the authors' code computed with it; data/README.md lists the names."""
    with np.load(DATA / "dtls_reference_32.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="session")
def imported(authors_pt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint folder made of it; not to be changed."""
    root = tmp_path_factory.mktemp("imported")
    named = root / "SR_8_32_s4.pt"
    named.write_bytes(authors_pt.read_bytes())
    import_checkpoint(named, root / "checkpoint")
    return root / "checkpoint"


@pytest.fixture
def model(imported: Path) -> DTLS:
    return load_checkpoint(imported, DTLS)


@pytest.fixture(scope="session")
def images(photographs: Path) -> Tensor:
    """Real images, uint8 (12, 3, 64, 64)."""
    loaded = [np.asarray(Image.open(path)) for path in sorted(photographs.rglob("*.png"))]
    return torch.from_numpy(np.stack(loaded)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def crops(images: Tensor) -> Tensor:
    """Real images, uint8 (12, 3, 32, 32)."""
    return images[:, :, 16:48, 16:48].contiguous()
