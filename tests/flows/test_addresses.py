"""Every command takes every address, or refuses it in a line; none takes a URL for a local folder."""

import io
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.errors import CheckpointError
from flows.demo import HELD_OUT, _photographs
from flows.import_checkpoint import ImportOptions, import_checkpoint
from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.options import TrainOptions
from storage.stores.location import Location, StorageError

AUTHORS = Path(__file__).parents[1] / "dtls" / "data" / "dtls_reference_32.pt"


@pytest.fixture
def memory() -> Iterator[str]:
    """An address that is no path, and that this process alone sees."""
    yield f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, which has no folder called like a URL in the end."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    assert not [path for path in (tmp_path / "here").iterdir() if ":" in path.name]


@pytest.mark.slow
def test_a_checkpoint_is_imported_from_and_to_any_address(memory: str, tmp_path: Path) -> None:
    shutil.copy(AUTHORS, tmp_path / "SR_8_32_s4.pt")
    import_checkpoint(ImportOptions(source=str(tmp_path / "SR_8_32_s4.pt"), target=str(tmp_path / "model")))
    Location.of(memory).upload("in/SR_8_32_s4.pt", tmp_path / "SR_8_32_s4.pt")
    said = import_checkpoint(ImportOptions(source=f"{memory}/in/SR_8_32_s4.pt", target=f"{memory}/model"))
    assert said.endswith(f"→ {memory}/model")
    for name in ("config.json", "model.safetensors"):
        assert Location.of(f"{memory}/model").read(name) == (tmp_path / "model" / name).read_bytes()
    load_checkpoint(tmp_path / "model")
    with pytest.raises(StorageError, match=r"memory://.*/model: already contains a model"):
        import_checkpoint(ImportOptions(source=f"{memory}/in/SR_8_32_s4.pt", target=f"{memory}/model"))


def test_a_checkpoint_that_cannot_be_imported_is_named_by_its_address(memory: str) -> None:
    Location.of(memory).write("bad.pt", b"junk")
    with pytest.raises(CheckpointError, match=rf"^{memory}/bad.pt: "):
        import_checkpoint(ImportOptions(source=f"{memory}/bad.pt", target=f"{memory}/model"))
    with pytest.raises(StorageError, match=r"gone\.pt: no file there"):
        import_checkpoint(ImportOptions(source=f"{memory}/gone.pt", target=f"{memory}/model"))
    assert not Location.of(memory).exists("model")


def test_a_cache_is_a_folder_on_this_machine(memory: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(buffer.getvalue())
    shard.fn(ShardOptions(source=str(tmp_path / "in"), target=f"{memory}/shards"))
    options = {"dim": 8, "dim_mults": "1,2", "size": 32, "lr_size": 8, "stride": 4, "steps": 1}
    given = {"source": f"{memory}/shards", "target": f"{memory}/model", "cache": "s3://bucket/cache", **options}
    with pytest.raises(StorageError, match="s3://bucket/cache: has to be a folder on this machine"):
        train.fn(TrainOptions.model_validate(given))


@pytest.mark.slow
def test_the_demo_s_photographs_go_to_any_address(memory: str) -> None:
    _photographs(Location.of(memory))
    assert sum(entry.key.startswith("hr/") for entry in Location.of(memory).list()) == len(HELD_OUT)
