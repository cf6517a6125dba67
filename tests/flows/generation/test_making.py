"""Making samples: batches of one size for the upscaler, failures that are rows, and a stop between two steps."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dtls.choices import TILE
from flows.generation.making import ENLARGED_AT_ONCE, Enlarging, Generation
from flows.generation.origins import FromSeeds
from flows.generation.seeds import key_of, seed_of, seeded
from flows.inputs.keys import Names
from flows.interface.errors import RunError
from storage.images.encode import Encoding
from storage.shards.write import Sample
from tests.flows.generation.fakes import Fake


class Doubling:
    """Repeats pixels, and writes down how many images it was given."""

    name, identity = "doubling", {"method": "doubling"}

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        self.batches.append(len(images))
        return images.repeat_interleave(2, -1).repeat_interleave(2, -2)


def generation(fake: Any, **more: Any) -> Generation:
    given = {"enlarging": None, "origin": FromSeeds(), "source": None, "seed": 0, "workers": 2, **more}
    return Generation(fake, names=Names(Encoding().suffix), encoding=Encoding(), provenance=True, **given)


def made(what: Generation) -> list[Sample]:
    """The files of ten samples."""
    return [one for one in what.made(seeded(0, 10), lambda one: one) if isinstance(one, Sample)]


def pixels(sample: Sample) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(sample.data)))


def test_an_upscaler_gets_batches_of_one_size_which_are_small_where_results_are_large() -> None:
    method: Any = Doubling()
    plain = {one.row["key"]: one for one in made(generation(Fake()))}
    for one in made(generation(Fake(), enlarging=Enlarging(method, 8))):
        np.testing.assert_array_equal(pixels(one)[::2, ::2], pixels(plain[one.row["key"]]))
    assert set(method.batches) == {ENLARGED_AT_ONCE}
    assert Enlarging(method, TILE // 2).at_once == 4
    assert Enlarging(method, 8 * TILE).at_once == 1


def test_an_image_of_no_numbers_is_a_row_with_the_reason() -> None:
    found = generation(Fake(spoiled=seed_of(0, key_of(4)))).made(seeded(0, 7), lambda one: one)
    rows = {one.row["key"] if isinstance(one, Sample) else one["key"]: one for one in found}
    assert len(rows) == 7
    assert [key for key, one in rows.items() if not isinstance(one, Sample)] == [key_of(4)]
    failed: Any = rows[key_of(4)]
    assert (failed["status"], failed["reason"]) == ("failed", "fake gave pixels that are no numbers")


def test_a_stopped_run_ends_between_two_steps_of_a_chain() -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:  # the first look is before the batch
            raise RunError("stopped")

    with pytest.raises(RunError, match="stopped"):
        list(generation(Fake(), look=look).made(seeded(0, 2), lambda one: one))
    assert looks == 2
