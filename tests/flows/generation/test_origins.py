"""What samples come of: arcs between two z, images as a model makes them, z of images, and what a model refuses."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dtls.errors import SamplingError
from flows.generation.origins import FromImages, FromSeeds, Inverted, Mixed, Seeded, between, fitted
from flows.generation.seeds import key_of, seed_of
from storage.images.formats import ImageError
from storage.stores.location import Entry, StorageError
from tests.flows.generation.fakes import Fake


def nothing(*_: object) -> None:
    """No look at the steps."""


def png(*size: int) -> bytes:
    """A file with a red image of this height and width, whose right half is blue."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[:, size[1] // 2 :] = (0, 0, 200)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def seeded(count: int, **more: Any) -> list[Seeded]:
    return [Seeded(Entry(key_of(number), 0, ""), seed_of(0, key_of(number)), **more) for number in range(count)]


def test_the_way_between_two_z_keeps_their_length() -> None:
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert between(one, other, 0.5).tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    assert between(one, other, 1 / 3).norm().item() == pytest.approx(1)
    assert between(one, other, 0).tolist() == [1, 0]
    assert between(one, 3 * one, 0.5).tolist() == [2, 0]


def test_an_image_becomes_its_centre_square_in_the_channels_of_the_model() -> None:
    colour: Any = Fake()
    made = fitted(png(8, 16), colour)
    assert made.shape == (3, 4, 4)
    assert made[0, :, 0].tolist() == pytest.approx([200 / 255] * 4, abs=0.02)
    assert made[2, :, 3].tolist() == pytest.approx([200 / 255] * 4, abs=0.02)
    grey: Any = Fake(channels=1)
    assert fitted(png(4, 4), grey)[0, 0].tolist() == pytest.approx([60 / 255, 60 / 255, 23 / 255, 23 / 255], abs=0.01)
    with pytest.raises(ImageError, match="smaller than the size 4"):
        fitted(png(3, 9), colour)


def test_truncation_scales_z() -> None:
    fake: Any = Fake()
    whole = FromSeeds()(fake, seeded(2), nothing).images
    assert torch.equal(FromSeeds(truncate=0.5)(fake, seeded(2), nothing).images, whole / 2)


def test_z_of_images_is_in_their_rows_and_gives_them_again() -> None:
    fake: Any = Fake()
    image = fitted(png(4, 4), fake)
    drawn = Inverted()(fake, seeded(2, image=image), nothing)
    assert torch.equal(drawn.images[1], image)
    row = drawn.rows[1]
    assert np.array_equal(np.frombuffer(row["z"], "<f4").reshape([*map(int, row["z_shape"].split(","))]), image)


def test_a_mix_begins_and_ends_with_files_or_samples(tmp_path: Path) -> None:
    fake: Any = Fake()
    (tmp_path / "a.png").write_bytes(png(4, 4))
    image, sample = fitted(png(4, 4), fake), fake.z(torch.tensor([seed_of(5, key_of(9))]), FromSeeds().start)[0]
    for in_z in (True, False):
        mix = Mixed((str(tmp_path / "a.png"), key_of(9)), 3, in_z=in_z, seed=5)
        mix.check(fake)
        made = mix(fake, seeded(3), nothing)
        torch.testing.assert_close(made.images[[0, 2]], torch.stack([image, sample]))
        if not in_z:
            torch.testing.assert_close(made.images[1], (image + sample) / 2)
    with pytest.raises(StorageError, match="no file there; give the file of an image, or the number of a sample"):
        Mixed((str(tmp_path / "b.png"), key_of(9)), 3, in_z=False, seed=5).check(fake)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ImageError, match=r"b\.png: not an image \(8 bytes\)"):
        Mixed((str(tmp_path / "b.png"), key_of(9)), 3, in_z=False, seed=5).check(fake)


def test_what_a_model_cannot_begin_with_is_refused() -> None:
    fake: Any = Fake()
    fake.inverts = fake.edits = False
    FromSeeds().check(fake)
    Mixed((key_of(1), key_of(2)), 3, in_z=True, seed=0).check(fake)
    for origin in (Inverted(), Mixed(("a.png", key_of(1)), 3, in_z=True, seed=0)):
        with pytest.raises(SamplingError, match="no way back from images to z"):
            origin.check(fake)
    with pytest.raises(SamplingError, match="does not begin with images"):
        FromImages(0.5).check(fake)
