"""The file of a result, and the row that records how it was made."""

import time
from dataclasses import replace
from pathlib import PurePosixPath

from dtls.inference.method import Method
from flows.inputs.keys import Names
from flows.transform.loaded import LoadedImage
from storage.images.encode import Encoded, Encoding
from storage.receipts.schemas import SampleRow
from storage.receipts.units import COPIED
from storage.shards.write import Sample


def sample_of(image: LoadedImage, method: Method, names: Names, encoding: Encoding, stamp: str | None) -> Sample:
    """The file of a result and its row.

    stamp: the text in the result that records what made it.
    """
    started = time.perf_counter()
    output = names.of(image.entry.key)
    suffix = PurePosixPath(output).suffix
    is_copied = image.own is not None
    made = _file(image, suffix, encoding, stamp)
    identity = {} if is_copied else method.identity
    height, width = image.shape
    row: SampleRow = {
        "key": image.entry.key,
        "status": "ok",
        "output": output,
        "output_bytes": len(made.data),
        "source_bytes": image.entry.size,
        "source_sha256": image.sha256,
        "width": width,
        "height": height,
        "method": "copy" if is_copied else method.name,
        "protocol": identity.get("protocol"),
        "checkpoint": identity.get("checkpoint"),
        "note": "; ".join((*([COPIED] if is_copied else []), *made.notes)) or None,
        "read_seconds": image.read_seconds,
        "compute_seconds": image.compute_seconds,
        "write_seconds": time.perf_counter() - started,
    }
    if image.mask is not None:
        row["mask"], row["mask_sha256"] = image.mask.entry.key, image.mask.sha256
    return Sample(made.data, suffix[1:].lower(), dict(row))


def _file(image: LoadedImage, suffix: str, encoding: Encoding, stamp: str | None) -> Encoded:
    """The file of a result; that of its source, where the result is the image itself, in its own format."""
    own, photograph = image.own, image.photograph
    if own is not None and encoding.is_of(photograph, suffix):
        return Encoded(own, ())
    made = encoding.encode(photograph, suffix, stamp if own is None else None)
    return replace(made, notes=(*photograph.notes, *made.notes))
