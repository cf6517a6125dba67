"""The command line as tests call it: how a command ended, and what it said."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    code: int
    stdout: str
    stderr: str


Command = Callable[..., Result]
