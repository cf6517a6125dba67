"""What is measured in training: a step of the textbook loop and a step of ours, on one batch."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.degradations.path import Degradation
from tests.bench.subjects import SEED, Network, Precision, Shape

Step = Callable[[], object]


def plain_step(shape: Shape, batch: Tensor, device: str) -> Step:
    """The textbook loop's step: fp32, NCHW, foreach AdamW; it keeps no average of the weights."""
    torch.manual_seed(SEED)
    network = shape.plain().to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-5, foreach=True)

    def forward(x: Tensor, t: Tensor) -> Tensor:
        return network(x.contiguous(), t)

    return lambda: _textbook_step(forward, optimizer, shape.degradation, batch.to(device))


def our_step(shape: Shape, batch: Tensor, device: str, precision: Precision, *, compiled: bool) -> tuple[str, Step]:
    """What our step is, in words, and the step: `Trainer`'s, or without Fabric one much like it."""
    torch.manual_seed(SEED)
    missing = [name for name in ("lightning_fabric", "huggingface_hub") if find_spec(name) is None]
    if missing:
        step = _step_without_fabric(shape, batch, device, precision, compiled=compiled)
        return f"our U-Net under autocast in a plain loop (no {' and '.join(missing)} here)", step
    return "Trainer", _trainer_step(shape, batch, device, precision, compiled=compiled)


def _trainer_step(shape: Shape, batch: Tensor, device: str, precision: Precision, *, compiled: bool) -> Step:
    from lightning_fabric import Fabric  # these need more than torch

    from dtls.models.dtls import DTLS
    from dtls.training.recipe import Recipe
    from dtls.training.trainer import Trainer

    kind, _, index = device.partition(":")
    mixed: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if precision == "bf16" else "32-true"
    fabric = Fabric(accelerator=kind, devices=[int(index)] if index else 1, precision=mixed)
    fabric.launch()
    model = DTLS(
        dim=shape.dim, multipliers=shape.multipliers, size=shape.size, stride=shape.stride, steps=shape.steps
    )
    trainer = Trainer(model.train(), Recipe(), fabric, compiled=compiled)
    return lambda: trainer.step(batch)


def _step_without_fabric(shape: Shape, batch: Tensor, device: str, precision: Precision, *, compiled: bool) -> Step:
    network = shape.ours().to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-5, fused=True)
    call: Network = torch.compile(network, dynamic=False) if compiled else network

    def forward(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return call(x.contiguous(memory_format=torch.channels_last), t)

    return lambda: _textbook_step(forward, optimizer, shape.degradation, batch.to(device))


def _textbook_step(network: Network, optimizer: torch.optim.Optimizer, degrade: Degradation, batch: Tensor) -> float:
    """The paper's training: mirror at random, degrade by a random t, L1, AdamW; returns the loss."""
    t = torch.randint(1, degrade.steps + 1, (len(batch),))
    mirrored = (torch.rand(len(batch)) < 0.5).to(batch.device)
    x0 = batch.float() / 255
    x0 = torch.where(mirrored[:, None, None, None], x0.flip(-1), x0)
    loss = F.l1_loss(network(degrade(x0, t), t.to(batch.device)), x0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
