"""Errors that end a command: a run with too many failures, wrong use, Ctrl-C."""


class RunError(RuntimeError):
    """A run that ended with more failures than it may have."""


class StoppedError(Exception):
    """Ctrl-C, which Typer would take for itself."""


class UsageError(ValueError):
    """Options that do not fit, in one line."""
