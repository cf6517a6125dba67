"""The text in a result that records what made it."""

import os
import time
from importlib.metadata import version

from dtls.inference.method import Method
from storage.stores.location import StorageError


def stamp_of(method: Method) -> str:
    """What made a result, for those who find it later; its day is SOURCE_DATE_EPOCH's, where that is set."""
    checkpoint = method.identity.get("checkpoint")
    parts = [
        f"dtls {version('dtls')}",
        f"method {method.name}",
        *([f"checkpoint sha256:{checkpoint}"] if checkpoint else []),
        time.strftime("%Y-%m-%d", time.gmtime(_now())),
    ]
    return "; ".join(parts)


def _now() -> float:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return float(int(given)) if given else time.time()
    except ValueError as error:
        raise StorageError(f"SOURCE_DATE_EPOCH={given}: not a whole number of seconds; unset it") from error
