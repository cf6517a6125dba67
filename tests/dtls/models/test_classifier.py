"""A classifier learns what tells folders apart, and says how sure it is of images of any size."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dtls.checkpoints.checkpoint import make_model
from dtls.errors import SizeError
from dtls.models.classifier import Classifier
from dtls.training.presets import preset_of
from dtls.training.trainer import Trainer
from tests.dtls import one_cpu


def made(**config: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(**{"size": 16, "width": 4, "classes": ["dark", "light"], **config})


def images(count: int) -> tuple[Tensor, Tensor]:
    """Dark and light noise, and which of them it is."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 120, (count, 3, 16, 16), generator=generator)
    return (noise + 100 * labels[:, None, None, None]).to(torch.uint8), labels


def test_classes_that_differ_are_told_apart() -> None:
    trainer = Trainer(made(), replace(preset_of("classifier").recipe, steps=40, warmup=0), one_cpu.fabric())
    losses = [trainer.step(*images(32)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    model = trainer.averaged()
    batch, labels = images(50)
    found = model.probabilities(batch.float() / 255)
    assert torch.equal(found.argmax(1), labels)
    torch.testing.assert_close(found.sum(1), torch.ones(50))
    assert model.classes == ("dark", "light")


def test_images_of_any_size_are_seen_by_the_square_in_their_middle() -> None:
    model = made().eval()
    seen: list[Tensor] = []
    model.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    wide = torch.zeros(1, 3, 32, 96)
    wide[..., 32:64] = 1
    for x in (wide, torch.ones(1, 3, 5, 5), torch.ones(1, 3, 16, 16)):
        assert model.probabilities(x).shape == (1, 2)
    assert {tuple(x.shape) for x in seen} == {(1, 3, 16, 16)}
    assert seen[0][..., 2:-2].min() > 0.9


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"classes": ["one"]}, "a classifier tells at least 2 classes apart, not 1"),
        ({"classes": ["one", "one"]}, "classes are at most 10,000 names, each another"),
        ({"classes": ["one", 2]}, "classes are names"),
        ({"width": 6}, "width is a multiple of 4, not 6"),
        ({"size": 4}, "size is at least 8 pixels, not 4"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SizeError, match=complaint):
        make_model({"method": "classifier", "size": 16, "width": 4, "classes": ["a", "b"], **config})
