"""Batches follow from (seed, step) alone: the same wherever a loader starts and however many processes share them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from flows.shard import ShardOptions, shard
from flows.training.batches import Batches, load_batches
from storage.shards.read import LocalShard, ShardReader


@pytest.fixture(scope="module")
def reader(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    """Three shards with the twelve images."""
    target = tmp_path_factory.mktemp("shards")
    shard.fn(ShardOptions(source=str(photographs), target=str(target), samples_per_shard=5))
    return ShardReader([LocalShard(path, None) for path in sorted(target.glob("*.tar"))])


def batches(reader: ShardReader, size: int = 32, batch_size: int = 6, seed: int = 0) -> Batches:
    return Batches(reader, size, batch_size, seed)


def images(tensor: Tensor) -> list[bytes]:
    return [bytes(image.permute(1, 2, 0).contiguous().numpy().tobytes()) for image in tensor]


@pytest.mark.parametrize(("batch_size", "processes"), [(6, 2), (6, 3), (12, 4), (14, 2)])
def test_the_shares_of_the_processes_put_together_are_the_batch_of_one(
    reader: ShardReader, batch_size: int, processes: int
) -> None:
    one = batches(reader, batch_size=batch_size)
    shares = [Batches(reader, 32, batch_size, 0, rank, processes) for rank in range(processes)]
    for step in range(4):
        parts = [share[step] for share in shares]
        assert {len(part) for part in parts} == {batch_size // processes}
        assert torch.equal(torch.cat(parts), one[step])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_batch_of_a_step_does_not_depend_on_where_the_loader_started(reader: ShardReader, workers: int) -> None:
    from_start = list(load_batches(batches(reader), 0, 6, 0, pinned=False))
    later = list(load_batches(batches(reader), 4, 6, workers, pinned=False))
    assert [len(from_start), len(later)] == [6, 2]
    for expected, batch in zip(from_start[4:], later, strict=True):
        assert (batch.dtype, batch.shape) == (torch.uint8, (6, 3, 32, 32))
        assert torch.equal(batch, expected)


def test_an_epoch_shows_every_image_once_as_it_is_and_each_epoch_in_another_order(
    reader: ShardReader, photographs: Path
) -> None:
    loader = batches(reader, size=64, batch_size=6)
    epochs = [images(torch.cat([loader[2 * epoch], loader[2 * epoch + 1]])) for epoch in range(2)]
    files = sorted(np.asarray(Image.open(path)).tobytes() for path in photographs.rglob("*.png"))
    assert [sorted(epoch) for epoch in epochs] == [files, files]
    assert epochs[0] != epochs[1]


def test_crops_lie_anywhere_and_another_seed_gives_others(reader: ShardReader) -> None:
    first, again, other = (batches(reader, batch_size=12, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    crops = [set(images(first[epoch])) for epoch in range(5)]
    assert len(set.union(*crops)) == 5 * 12  # of 33 × 33 places in each image


def test_whole_images_are_reduced_until_their_shorter_side_fits(tmp_path: Path) -> None:
    source = tmp_path / "images"
    source.mkdir()
    wide = np.zeros((48, 96, 3), np.uint8)
    wide[:, 48:] = 255
    Image.fromarray(wide).save(source / "wide.png")
    shard.fn(ShardOptions(source=str(source), target=str(tmp_path / "shards")))
    reader = ShardReader([LocalShard(path, None) for path in (tmp_path / "shards").glob("*.tar")])
    found = Batches(reader, 16, 200, 0, whole=True)[0].float() / 255
    assert found.shape == (200, 3, 16, 16)
    shares = found.mean((1, 2, 3))
    assert shares.min() < 0.05  # of 32 × 16 pixels, squares from one end to the other
    assert shares.max() > 0.95
    cut = Batches(reader, 16, 200, 0)[0].float() / 255
    assert ((cut > 0) & (cut < 1)).sum() == 0
    assert ((found > 0) & (found < 1)).any()
