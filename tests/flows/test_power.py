"""The power goes when a run says that it is done: all that it said is on the disk, whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dtls.checkpoints.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from dtls.models.dtls import DTLS
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from flows.verify import VerifyOptions, verify
from storage.receipts.commits import Commits
from storage.receipts.owners import LEASE
from storage.receipts.receipts import MANIFEST
from storage.stores.location import Location
from tests.power import Disk, disk_in


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with disk_in(tmp_path_factory.mktemp("power")) as disk:
        yield disk


def upscaled(source: Path, target: Path, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, "unit_size": 3}
    return upscale.fn(UpscaleOptions.model_validate({**given, **options}))


def sharded(source: Path, target: Path, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "samples_per_shard": 5}
    return shard.fn(ShardOptions.model_validate({**given, **options}))


def files(folder: Path) -> dict[str, bytes]:
    """All but leases, of which whatever is left belongs to nobody."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != Path(LEASE).name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "name"), [(upscaled, "new/folder"), (upscaled, "large.zip"), (sharded, "shards")])
def test_what_a_run_has_told_as_done_is_on_the_disk(make: Any, name: str, disk: Disk, photographs: Path) -> None:
    assert make(photographs, disk.root / name) == "12 done"
    cut = disk.cut()
    assert files(cut) == files(disk.root)
    assert verify(VerifyOptions(target=str(cut / name)))
    assert make(photographs, cut / name) == "12 already done"


@pytest.mark.slow
def test_a_result_that_replaces_another_is_there_or_is_made_again(disk: Disk, photographs: Path) -> None:
    target = disk.root / "replaced"
    upscaled(photographs, target)
    assert upscaled(photographs, target, method="bicubic", overwrite=True) == "12 done"
    cut = disk.cut() / "replaced"
    assert files(cut) == files(target)


def test_without_sync_nothing_is_promised(disk: Disk, photographs: Path) -> None:
    assert upscaled(photographs, disk.root / "scratch", sync=False) == "12 done"
    assert not (disk.cut() / "scratch" / MANIFEST).exists()


def test_each_file_of_a_training_is_on_the_disk_once_it_is_saved(disk: Disk) -> None:
    folder = disk.root / "model"
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), size=32, stride=8, steps=3), folder)
    save_tensors({"a": torch.ones(3)}, folder / "training-000000001.safetensors")
    cut = disk.cut() / "model"
    assert files(cut) == files(folder)
    load_checkpoint(cut)


def test_the_result_before_of_an_image_that_fails_now_does_not_come_back(disk: Disk) -> None:
    target = Location.of(disk.root / "failed")
    target.write("deep/a.png", b"before")
    with Commits(target) as commits:
        commits.remove("deep/a.png")
    assert list((disk.cut() / "failed" / "deep").iterdir()) == []


def test_a_name_never_comes_before_its_bytes(disk: Disk) -> None:
    """As on disks that write names before bytes: the power goes at each rename."""
    target = Location.of(disk.root / "unit")
    seen = []
    with target.fenced(lambda: seen.append(disk.cut())), Commits(target) as commits:
        commits.write("deep/er/a.png", bytes(10_000))
        commits.settle("deep/er/a.png")
    (cut,) = seen
    (temporary,) = (cut / "unit" / "deep" / "er").iterdir()
    assert temporary.read_bytes() == bytes(10_000)
    assert (disk.cut() / "unit" / "deep" / "er" / "a.png").read_bytes() == bytes(10_000)
