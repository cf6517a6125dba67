"""Whether images, methods and results fit each other: scales, and the downscalings that LR images were made by."""

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, cast

from dtls.degradations.base import HOLES, LRProtocol, Protocol, is_linear
from dtls.degradations.recorded import alike, canonical, split
from dtls.degradations.registry import as_part_of, spec_of_task, task_of_spec
from dtls.errors import DegradationError, ProtocolError, SamplingError, SizeError
from flows.inputs.sources import manifest_beside
from storage.receipts.parquet import ROWS
from storage.stores.location import StorageError

if TYPE_CHECKING:
    from dtls.inference.method import Method

DEFAULT: LRProtocol = "reference"
RANDOM: LRProtocol = "realworld"
"""The protocol that is not linear."""
DEGRADING = ("downscale", "degrade")
"""What the names of the methods begin with that degrade images."""


def protocols(address: str, method: str | tuple[str, ...] = "downscale") -> set[str]:
    """The protocols that a manifest beside the images there names: by which degradations they were made.

    method: what the name of the method begins with that made them, or one of several; of results, any model's name
    stands beside the degradation that it was trained for.
    """
    manifest = manifest_beside(address, ["method", "protocol"])
    if manifest is None or manifest.num_columns < 2:
        return set()
    rows = manifest.group_by(["method", "protocol"]).aggregate([])
    made = ((str(row["method"]), row["protocol"]) for batch in rows.to_batches(ROWS) for row in batch.to_pylist())
    return {str(protocol) for name, protocol in made if protocol and name.startswith(method)}


def check_enlarges(method: "Method") -> None:
    """SizeError for a method that restores images at the size they have."""
    if method.max_scale == 1:
        raise SizeError(
            f"the method {method.name} restores images at their own size, and enlarges none; use dtls restore"
        )


def downscaling_of(source: str, requested: Protocol | None) -> Protocol | None:
    """The downscaling that results of these images are projected by: their manifest's, or else the one requested.

    None where neither says it. ProtocolError where they disagree, or where the images are made by several;
    SamplingError for one that is not linear.
    """
    made = protocols(source)
    _check_unknown({source: made})
    if random := sorted(name for name in made if not is_linear(name)):
        raise SamplingError(f"{source}: made by {random[0]}, which is not linear: nothing to project on")
    if len(made) > 1 or (requested is not None and made - {requested}):
        asked = f", not by {requested}" if requested is not None else "; project the images of one at a time"
        raise ProtocolError(f"{source}: made by {' and '.join(sorted(made))}{asked}")
    return cast(Protocol, made.pop()) if made else requested


def check_restores(method: "Method", task: str) -> None:
    """Refuse, before any work, a method that is not for a task of restoration."""
    spec = spec_of_task(task)
    if method.max_scale != 1:
        raise SizeError(
            f"the method {method.name} enlarges images, and restores none at their own size; use dtls upscale"
        )
    if method.degradation is not None and method.degradation != spec:
        strength = as_part_of(spec, method.degradation)
        weaker = "" if strength is None else f" --strength {strength:g}"
        raise ProtocolError(
            f"the model was trained for {task_of_spec(method.degradation)}, not {task}; say --task "
            f"{task_of_spec(method.degradation)}{weaker}, or give a model of this task"
        )
    has_holes = HOLES in spec.split("+")
    if method.needs_mask and not has_holes:
        raise ProtocolError(f"{method.name} fills holes: it is for --task inpaint, not {task}")
    if has_holes and not method.needs_mask:
        raise ProtocolError(f"{method.name} fills no holes, so that it is not for --task {task}")


def check_degraded(method: "Method", source: str, protocol: str, *, projected: bool) -> None:
    """Refuse, before any work, images that were degraded otherwise than the method was trained for.

    projected: whether results are to agree with them, which needs their own degradation, whatever the method.
    """
    is_trained = method.degradation is not None
    if not is_trained and not projected:
        return
    made = protocols(source, "degrade")
    _check_unknown({source: made})
    if others := sorted(name for name in made if not alike(name, protocol)):
        way_out = "--any-protocol takes them all the same" if is_trained else "name their own task, or --no-project"
        raise ProtocolError(
            f"the task undoes {protocol}, and the images in {source} are made by {', '.join(others)}; {way_out}"
        )


def check_misfits(
    method: "Method",
    source: str,
    scale: float | None,
    *,
    any_protocol: bool,
    requested: Protocol | None = None,
) -> None:
    """Refuse, before any work, a scale or images that the method was not trained for.

    requested: the protocol of images that have no manifest.
    """
    if scale is not None:
        method.check_scale(scale)
    if (trained := method.degradation) is None:
        return
    made = protocols(source) or {*filter(None, [requested])}
    if made - {trained} and not any_protocol:
        raise ProtocolError(
            f"the checkpoint is made for {trained}, and the images in {source} are made by "
            f"{', '.join(sorted(made))}; --any-protocol takes them all the same"
        )


def chosen_protocol(
    requested: str | None, lr: str | None, results: Mapping[str, str], *, any_protocol: bool
) -> tuple[str, str]:
    """The degradation of a report, and a note for the report where it is not known to be the LR images' own.

    StorageError where the LR images' manifest names another than requested, or none is known and results disagree;
    ProtocolError for results of a model for another one, unless `any_protocol`.
    """
    trained = {name: found for name, address in results.items() if (found := protocols(address, ""))}
    if lr is None:
        return requested or DEFAULT, _unlike(trained)
    made = protocols(lr, DEGRADING)
    _check_unknown({lr: made, **{results[name]: found for name, found in trained.items()}})
    if made and (len(made) > 1 or (requested is not None and not alike(min(made), requested))):
        raise StorageError(f"{lr}: made with the protocol {', '.join(sorted(made))}, not {requested}")
    protocol = made.pop() if made else requested
    if protocol is None:
        return _assumed(lr, trained, any_protocol=any_protocol)
    how = f"the LR images are made by {protocol}" if requested is None else f"--protocol {protocol} is given"
    for name, found in trained.items() if not any_protocol else ():
        if others := {name for name in found if split(name)[0] != split(protocol)[0] and not alike(name, protocol)}:
            raise ProtocolError(
                f"{name} ({results[name]}) is of a model for {', '.join(sorted(others))}, and {how}; "
                "--any-protocol measures it all the same"
            )
    return canonical(protocol), ""


def _check_unknown(named: Mapping[str, Set[str]]) -> None:
    for address, protocols_there in named.items():
        if unknown := sorted(name for name in protocols_there if not _is_known(name)):
            raise StorageError(
                f"{address}: its manifest names the protocol {unknown[0]!r}, which this version of dtls does not know"
            )


def _is_known(name: str) -> bool:
    try:
        return bool(canonical(name))
    except DegradationError:
        return False


def _assumed(lr: str, trained: Mapping[str, Set[str]], *, any_protocol: bool) -> tuple[str, str]:
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
    protocol = canonical(wanted.pop())
    names = f"{' and '.join(trained)} {'was' if len(trained) == 1 else 'were'} trained"
    if protocol == RANDOM:
        return protocol, (
            f"{lr} does not say how its images were made, and {names} for {RANDOM}, which is not linear: "
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
