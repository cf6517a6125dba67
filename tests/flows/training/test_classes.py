"""A classifier is trained on shards of images in folders of their classes, and batches come with these."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtls.checkpoints.checkpoint import load_checkpoint
from dtls.errors import CheckpointError, TrainingError
from dtls.inference.trained import Trained
from dtls.models.classifier import Classifier
from flows.shard import ShardOptions, shard
from flows.train import train
from flows.training.batches import Batches, load_batches
from flows.training.classes import class_of, classes_in
from flows.training.options import TrainOptions
from storage.shards.read import LocalShard, ShardReader


def shards_of(folder: Path, names: list[str]) -> list[LocalShard]:
    """Shards of images of one grey each, the darker the earlier the name."""
    for number, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 10 * number, np.uint8)).save(path)
    target = folder / "shards"
    shard.fn(ShardOptions(source=str(folder / "images"), target=str(target), samples_per_shard=2))
    return [LocalShard(path, None) for path in sorted(target.glob("*.tar"))]


def test_the_class_of_an_image_is_its_first_folder(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, ["b/x/1.png", "a/2.png", "b/3.png"])
    assert classes_in(shards, ()) == ("a", "b")
    assert ShardReader(shards).source_keys() == ["a/2.png", "b/3.png", "b/x/1.png"]
    assert [class_of(key) for key in ("a/b/c.png", "c.png")] == ["a", ""]


@pytest.mark.parametrize("facts", ["{no JSON", "[" * 10**5, '["key"]'], ids=["none", "deep", "list"])
def test_images_of_others_shards_are_called_as_they_are_there(facts: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "1.json").write_text(facts)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("cats/1.png", "cats/1.json", "dogs/2.png"):
            tar.add(tmp_path / f"1{Path(name).suffix}", name)
    assert ShardReader([LocalShard(tmp_path / "a.tar", None)]).source_keys() == ["cats/1.png", "dogs/2.png"]


def test_batches_have_the_labels_of_their_images(tmp_path: Path) -> None:
    reader = ShardReader(shards_of(tmp_path, [f"{n % 3}/{n}.png" for n in range(6)]))
    labels = [int(class_of(key)) for key in reader.source_keys()]
    batches = Batches(reader, 8, 12, 0, labels=labels)
    (batch,) = load_batches(batches, 0, 1, 0, pinned=False)
    assert torch.equal(batch.images, batches[0])
    assert torch.equal(batch.labels, (batch.images[:, 0, 0, 0] // 10) % 3)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["1.png", "a/2.png"], "1 images, such as 1.png, are in no folder; a classifier learns from shards of"),
        (["a/1.png", "a/2.png"], "all images are in the folder a; a classifier needs at least 2 classes"),
    ],
)
def test_images_without_classes_are_refused(names: list[str], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=complaint):
        classes_in(shards_of(tmp_path, names), ())


@pytest.mark.slow
def test_a_classifier_is_trained_and_started_from(tmp_path: Path) -> None:
    shards_of(tmp_path, ["a/1.png", "b/2.png", "b/3.png"])
    options = {"size": 16, "batch_size": 2, "steps": 2, "device": "cpu", "workers": 0, "method": "classifier"}
    first = {"source": str(tmp_path / "shards"), "target": str(tmp_path / "model"), **options}
    train.fn(TrainOptions(**first, network={"width": "4"}))
    model = load_checkpoint(tmp_path / "model", Classifier)
    assert model.classes == ("a", "b")
    assert model.probabilities(torch.rand(3, 3, 20, 20)).shape == (3, 2)
    with pytest.raises(CheckpointError, match="classifier neither enlarges nor restores images"):
        Trained(tmp_path / "model")
    train.fn(TrainOptions(**{**first, "target": str(tmp_path / "second"), "start": str(tmp_path / "model")}))
    shards_of(tmp_path / "other", ["c/1.png", "b/2.png"])
    other = {**first, "source": str(tmp_path / "other" / "shards"), "target": str(tmp_path / "third")}
    with pytest.raises(CheckpointError, match="knows other classes than the images are of"):
        train.fn(TrainOptions(**{**other, "start": str(tmp_path / "model")}))
