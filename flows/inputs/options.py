"""Options of the flows that read a source: how the files in it are taken for images."""

import codecs

from pydantic import Field, field_validator

from flows.engine.options import BatchOptions
from flows.interface.options import WHAT

ENCODINGS = ("shift_jis", "gbk", "big5", "euc_kr", "cp866", "cp437", "latin-1")
"""Of names, in the old archives of those who did not write in Latin letters."""


class SourceOptions(BatchOptions):
    """Options of the flows that read a source, whatever it is."""

    panel = WHAT

    names_encoding: str | None = Field(
        None, description="encoding of the file names in a zip or tar that names none, like shift_jis, gbk or cp866"
    )
    follow_links: bool = Field(
        False, description="follow links that lead out of the folder; without it they are skipped and counted"
    )
    by_content: bool = Field(
        False,
        description="also take files that begin as an image does but have no image suffix; reads the start of "
        "every such file",
    )

    @field_validator("names_encoding")
    @classmethod
    def _is_an_encoding(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            is_usable = b"A/b.9".decode(encoding, "surrogateescape") == "A/b.9" and codecs.lookup(encoding)
            b"\xff".decode(encoding, "surrogateescape")
        except (LookupError, ValueError):
            is_usable = None
        if not is_usable:
            raise ValueError(
                f"{encoding!r} is no encoding of names that Python knows; {', '.join(ENCODINGS)} are some"
            )
        return encoding
