"""What a training in the tests' process runs on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fabric(*, bf16: bool = False) -> "Fabric":
    """One CPU; Fabric is imported here, as this takes seconds and most runs of tests need none of it."""
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if bf16 else "32-true")
