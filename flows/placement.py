"""On which device, and with what precision, a model computes that is used here or elsewhere."""

from typing import Any

from dtls.devices import Precision, best_device, best_precision
from flows.runners import connected, resources_of


def device_here(options: Any) -> str:
    """The device of this process's own model: the units', unless these are done elsewhere."""
    if options.runner == "threads":
        return str(options.device)
    if options.dry_run:
        return str(options.device) if options.runner == "processes" else "auto"
    return "cpu"


def precision_of(options: Any) -> Precision:
    """The precision that units of these options will have, as the device that does them has it."""
    wish: Precision = options.precision
    if options.runner != "dask" or wish != "auto":
        return best_precision(wish, best_device(options.device)) if options.runner == "processes" else wish
    with connected(options, is_heavy=True) as client:
        found: Precision = client.submit(
            precision_there, options.device, resources=resources_of(client, options, is_heavy=True), pure=False
        ).result()
    return found


def precision_there(device: str) -> Precision:
    """What the precision `auto` is in this process."""
    return best_precision("auto", best_device(device))
