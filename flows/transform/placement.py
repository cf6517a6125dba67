"""On which device, and with what precision, a model computes that is used here or elsewhere."""

from typing import Any

from dtls.choices import Precision
from flows.engine.cluster import GPU, connected, resources_of, scheduler_of, workers_of
from storage.stores.location import StorageError


def device_here(options: Any, *, dry_run: bool) -> str:
    """The device of this process's own model: the units', unless these are done elsewhere."""
    if options.runner == "threads":
        return str(options.device)
    if dry_run:
        return str(options.device) if options.runner == "processes" else "auto"
    return "cpu"


def precision_of(options: Any) -> Precision:
    """The precision that units of these options will have, as the device that does them has it."""
    from dtls.devices import best_device, best_precision

    requested: Precision = options.precision
    if options.runner == "threads" or requested != "auto":
        return requested
    if options.runner == "processes":
        return best_precision(requested, best_device(options.device))
    with connected(options, uses_gpu=True) as client:
        asks = resources_of(client, options, uses_gpu=True)
        address = next(a for a, worker in workers_of(client).items() if GPU in worker["resources"] or not asks)
        found: dict[str, Precision] = client.run(
            precision_there, options.device, workers=[address], on_error="return"
        )
    if not isinstance(found[address], str):
        raise StorageError(f"{scheduler_of(options)}: {address} cannot compute: {found[address]}")
    return found[address]


def precision_there(device: str) -> Precision:
    """What the precision `auto` is in this process."""
    from dtls.devices import best_device, best_precision

    return best_precision("auto", best_device(device))
