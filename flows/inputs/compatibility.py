"""By which downscaling a report measures LR consistency: what is known of the LR images, or else of the results."""

from collections.abc import Mapping, Set
from typing import cast, get_args

from dtls.degradations.base import LRProtocol, is_linear
from dtls.errors import ProtocolError
from flows.inputs.sources import protocols
from storage.stores.location import StorageError

DEFAULT: LRProtocol = "reference"


def chosen_protocol(
    requested: LRProtocol | None, lr: str | None, results: Mapping[str, str], *, any_protocol: bool
) -> tuple[LRProtocol, str]:
    """The protocol of a report, and what people must know where nothing says that it is the LR images' own.

    StorageError where the LR images' manifest says another than requested, or nothing says any and results disagree;
    ProtocolError for results of a model for another one, unless `any_protocol`.
    """
    trained = {name: found for name, address in results.items() if (found := protocols(address, ""))}
    if lr is None:
        return requested or DEFAULT, _unlike(trained)
    made = protocols(lr)
    if made and (len(made) > 1 or (requested is not None and made != {requested})):
        raise StorageError(f"{lr}: made with the protocol {', '.join(sorted(made))}, not {requested}")
    _check_unknown({lr: made, **{results[name]: found for name, found in trained.items()}})
    told = made.pop() if made else requested
    if told is None:
        return _assumed(lr, trained, any_protocol=any_protocol)
    how = f"the LR images are made by {told}" if requested is None else f"--protocol {told} is given"
    for name, found in trained.items() if not any_protocol else ():
        if others := found - {told}:
            raise ProtocolError(
                f"{name} ({results[name]}) is of a model for {', '.join(sorted(others))}, and {how}; "
                "--any-protocol measures it all the same"
            )
    return cast(LRProtocol, told), ""


def _check_unknown(named: Mapping[str, Set[str]]) -> None:
    for address, protocols_there in named.items():
        if unknown := sorted(protocols_there - {*get_args(LRProtocol)}):
            raise StorageError(
                f"{address}: its manifest names the protocol {unknown[0]!r}, which this version of dtls does not know"
            )


def _assumed(lr: str, trained: Mapping[str, Set[str]], *, any_protocol: bool) -> tuple[LRProtocol, str]:
    """The protocol that the results' models were trained for, where that is one."""
    wanted = set[str]().union(*trained.values())
    if len(wanted) > 1 and not any_protocol:
        raise StorageError(
            f"{lr}: nothing says how the LR images were made, and the results are of models for different protocols "
            f"({_listed(trained)}); --protocol says how"
        )
    if len(wanted) != 1:
        return DEFAULT, (
            f"The protocol {DEFAULT} is assumed: {lr} does not say how its images were made. "
            "Where it was otherwise, consistency is wrong: --protocol says it."
        )
    protocol = cast(LRProtocol, wanted.pop())
    names = f"{' and '.join(trained)} {'was' if len(trained) == 1 else 'were'} trained"
    if not is_linear(protocol):
        return protocol, (
            f"{lr} does not say how its images were made, and {names} for realworld, which is not linear: "
            "consistency and LR-PSNR are not measured. --protocol says how the images were made."
        )
    return protocol, (
        f"{lr} does not say how its images were made. Consistency is measured by {protocol}, for which {names}; "
        "where they were made otherwise, it is wrong: --protocol says it."
    )


def _unlike(trained: Mapping[str, Set[str]]) -> str:
    if len(set[str]().union(*trained.values())) < 2:
        return ""
    return f"The results are of models for LR images of different protocols: {_listed(trained)}."


def _listed(trained: Mapping[str, Set[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in trained.items())
