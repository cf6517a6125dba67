"""Whether a model and what enlarges its images fit each other, and how a refusal before any work is reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dtls.errors import DtlsError, SizeError
from flows.inputs.compatibility import check_enlarges
from flows.interface.errors import UsageError
from storage.images.formats import ImageError
from storage.stores.location import StorageError, UnavailableError

if TYPE_CHECKING:
    from dtls.inference.generation import Generator
    from dtls.inference.method import Method

DEFAULT_SCALE = 4.0


@contextmanager
def as_usage() -> Iterator[None]:
    """Let what does not fit be wrong use, with its line."""
    try:
        yield
    except UnavailableError:
        raise
    except (DtlsError, ImageError, StorageError) as error:
        raise UsageError(str(error)) from error


def enlarged_size(generator: "Generator", upscaler: "Method", size: int | None) -> int:
    """The side of enlarged images; SizeError where the upscaler does not make them of the model's.

    By default as large as the upscaler makes them, or four times.
    """
    check_enlarges(upscaler)
    own, name = generator.size, generator.identity["method"]
    side = size or round(own * (upscaler.scale or min(DEFAULT_SCALE, upscaler.max_scale or DEFAULT_SCALE)))
    if side <= own:
        raise SizeError(f"--size is to be more than the {own} pixels that {name} makes, not {side}")
    upscaler.check_scale(side / own)
    return side
