"""The run over what is planned: seeds in, images out.

A target is a folder, with a file an image; an archive, which is packed whole when all its images are made; or a
folder of WebDataset shards that `dtls train` takes. Unit: 256 samples, or a shard. Proof: its receipt, written after
the images.
"""

from collections.abc import Callable
from functools import partial

from flows.engine import run as fanout
from flows.engine.job import Job, WorkerSpec
from flows.engine.options import MakingOptions
from flows.generation.making import Generation
from flows.generation.plan import Plan
from flows.generation.spec import TITLE, GenerationSpec
from flows.transform.targets import pack
from storage.archives.writer import Packing


def run(
    spec: GenerationSpec,
    generation: Generation,
    plan: Plan,
    packing: Packing | None,
    options: MakingOptions,
    finish: Callable[[], object] = lambda: None,
) -> str:
    """Make the samples of a plan. generation: what makes them in this process. finish: what comes after all units."""
    if packing is not None:
        finish = partial(pack, packing, plan.receipts, plan.units, plan.names, keeps_others=False)
    in_shards = spec.results.in_shards
    job = Job(
        title=f"{TITLE} with {generation.generator.identity['method']}",
        units=plan.units,
        work=spec.work(generation),
        worker_spec=WorkerSpec(spec, uses_gpu=True, trial=spec.into if in_shards else None),
        receipts=plan.receipts,
        divisible=not in_shards,
        overwrite=options.overwrite,
        finish=finish,
        output=None if in_shards else plan.names.of,
        target=str(packing) if packing is not None else None,
        also=[packing.location] if packing is not None else [],
        reads_files=spec.source is not None,
    )
    return str(fanout.run(job, options))
