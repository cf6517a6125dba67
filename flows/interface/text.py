"""Durations, counts, errors and Markdown in the words that people read."""

import humanize

from flows.interface.console import printable


def duration(seconds: float) -> str:
    """A time such as "12.3 s" and "2 minutes and 5 seconds"."""
    return f"{seconds:.1f} s" if seconds < 60 else humanize.precisedelta(seconds, format="%0.0f")


def counted(number: int, what: str) -> str:
    """A number of things, such as "1 image" and "1,200 images"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def words_of(error: BaseException) -> str:
    """The message of an error in one line; its class, where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def server_refused(server: str, error: Exception) -> str:
    """The line for a Prefect server that cannot be reached, or does not let in."""
    return f"{server}: {words_of(error)}; are PREFECT_API_URL and PREFECT_API_AUTH_STRING right?"


def code(text: str) -> str:
    """A text as code in Markdown, in one line, whatever characters it has."""
    return "`" + " ".join(printable(text).split()).replace("`", "'") + "`"


def link(address: str) -> str:
    """An address as a Markdown link where it can be one, else as code."""
    is_plain = address.isprintable() and not set(address) & set("<> ")
    return f"<{address}>" if "://" in address and is_plain else code(address)
