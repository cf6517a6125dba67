"""The classifier of a report is that of a checkpoint, and other models are refused."""

from pathlib import Path

import pytest
import torch

from dtls.checkpoints.checkpoint import load_hashed, save_checkpoint
from dtls.errors import CheckpointError
from dtls.models.classifier import Classifier
from dtls.models.srcnn import SRCNN
from flows.evaluation.sets.classifier import load_classifier


def test_probabilities_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(size=8, classes=("cat", "dog", "owl"), width=4).eval()
    save_checkpoint(model, tmp_path)
    found = load_classifier(str(tmp_path), "cpu")
    assert found.classes == ("cat", "dog", "owl")
    assert found.sha256 == load_hashed(tmp_path)[1]
    x = torch.randint(0, 256, (5, 3, 12, 20), dtype=torch.uint8)
    probabilities = found(x)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5))
    assert torch.equal(probabilities, model.probabilities(x.float() / 255))


def test_other_models_are_refused(tmp_path: Path) -> None:
    save_checkpoint(SRCNN(), tmp_path)
    with pytest.raises(CheckpointError, match="is a srcnn model, not a classifier; dtls train --method classifier"):
        load_classifier(str(tmp_path), "cpu")
