"""From a source to a target, image by image: the run over what is planned, and where results go.

A target is a folder, with a file an image; an archive, which is packed whole when all its images are made; or a
folder of WebDataset shards. Unit: about 256 images, or a shard. Proof: its receipt, written after the images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from dtls.inference.method import Method
from flows.engine import run as fanout
from flows.engine.job import Job, WorkerSpec
from flows.inputs.masks import Masks, check_apart
from flows.inputs.selection import SelectionOptions
from flows.inputs.sources import SourceSpec, absolute, check_within
from flows.inputs.unlisted import check_remaking
from flows.transform.estimate import log_plan
from flows.transform.plan import Plan, check_sources
from flows.transform.provenance import stamp_of
from flows.transform.spec import ImageTransform, TransformSpec
from flows.transform.targets import check_folded, log_names_alike, pack
from storage.archives.source import Source, open_source
from storage.stores.folding import pairs_alike
from storage.stores.location import Location


def transform(
    recipe: ImageTransform,
    source: str,
    target: str,
    options: SelectionOptions,
    method: Method | None = None,
    unit_size: int = 256,
) -> str:
    """Apply `recipe` to the chosen images of `source`; results are stored at `target` under the same names.

    method: that of the recipe, where it is loaded already.
    """
    method = method or recipe.load()
    results = recipe.results
    where = open_source(source, options.names_encoding, follow_links=options.follow_links)
    packing = results.packing(target)
    to = packing.staging if packing else Location.of(target)
    masks = None
    check_within(Location.of(target), source)
    if recipe.masks is not None:
        check_within(Location.of(target), recipe.masks)
        check_apart(recipe.masks, source, options)
        masks = Masks.at(recipe.masks, options)
    plan = Plan.of(recipe, method, where, source, packing, to, options, unit_size, masks)

    def spec_of(address: str, opened: Source) -> SourceSpec:
        return SourceSpec.of(address, opened, options.names_encoding, follow_links=options.follow_links)

    spec = TransformSpec(
        recipe,
        spec_of(source, where),
        absolute(target),
        stamp=stamp_of(method) if results.provenance else None,
        workers=options.workers,
        masks=spec_of(recipe.masks, masks.source) if recipe.masks is not None and masks is not None else None,
    )
    here = spec.transform(where, masks.source if masks is not None else None, method, options.in_flight)
    alike = pairs_alike(plan.outputs)
    if packing is not None and alike:
        log_names_alike(packing, alike)
    job = Job(
        title=f"{recipe.title} {where}",
        units=plan.units,
        work=spec.work(here),
        worker_spec=WorkerSpec(
            spec,
            uses_gpu=method.uses_gpu,
            trial=spec.into if results.in_shards else None,
        ),
        receipts=plan.receipts,
        divisible=not results.in_shards,
        again=recipe.size_of.again,
        overwrite=options.overwrite,
        prepare=partial(check_folded, to, alike),
        finish=partial(pack, packing, plan.receipts, plan.units, plan.names, keeps_others=not options.takes_all)
        if packing is not None
        else lambda: None,
        output=None if results.in_shards else plan.names.of,
        target=str(packing) if packing is not None else None,
        also=[packing.location] if packing is not None else [],
    )
    check_remaking(job, options, plan.contents, plan.before)
    if not options.takes_all:
        check_sources(job, options, {*plan.contents.images, *plan.absent})
    with _one_thread_each(method):
        if options.dry_run:
            return log_plan(job, replace(here, names=plan.names), options)
        return str(fanout.run(job, options))


@contextmanager
def _one_thread_each(method: Method) -> Iterator[None]:
    """Channelwise methods run in as many threads as read images: each then needs none of torch's own."""
    threads = torch.get_num_threads()
    if method.channelwise:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
