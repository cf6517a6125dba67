"""`dtls/train`: shards become a trained model.

Unit: the run. Proof: the newest training state in the target, from which a stopped run resumes exactly. Training is a
process of its own; cancelling the flow stops it after it has saved.
"""

from flows.engine.flow import flow
from flows.interface.extras import check_extra
from flows.training.options import TrainOptions

__all__ = ["TrainOptions", "train"]


@flow("train {options.source}")
def train(options: TrainOptions) -> str:
    """Train a model on shards."""
    check_extra("train", "training")
    from flows.training.run import trained

    return trained(options)
