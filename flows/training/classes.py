"""Classes of images in shards: the first folder of what they were called before, like `cats` of `cats/1.jpg`."""

from collections.abc import Sequence
from pathlib import Path

from dtls.errors import TrainingError
from storage.shards.read import LocalShard, ShardReader


def class_of(key: str) -> str:
    """The class of an image: the first folder of its key, or nothing where it is in none."""
    folder, slash, _ = key.partition("/")
    return folder if slash else ""


def classes_in(shards: Sequence[LocalShard], image_ext: Sequence[str]) -> tuple[str, ...]:
    """The classes of the images in shards, sorted; TrainingError for images without one, and for one class alone."""
    where = shards[0].path.parent if shards else Path()
    keys = ShardReader(shards, image_ext).source_keys()
    if bare := [key for key in keys if not class_of(key)]:
        raise TrainingError(
            f"{where}: {len(bare):,} images, such as {bare[0]}, are in no folder; a classifier learns from shards of "
            "images in folders of their classes, like cats/1.jpg"
        )
    found = sorted({class_of(key) for key in keys})
    if len(found) < 2:
        raise TrainingError(
            f"{where}: all images are in the folder {found[0]}; a classifier needs at least 2 classes"
        )
    return tuple(found)
