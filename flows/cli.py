"""The command line: `dtls demo | shard | train | downscale | upscale | report | reproduce | …`.

The functions that the deployments run, here without Prefect around them, the demo apart. Exit code 2 for wrong use,
1 for failure; one line says what, where, and what to do. DTLS_TRACEBACK=1 shows where in the code.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal, TypeVar

import typer
from rich.console import Console

from dtls.authors import import_checkpoint
from dtls.checkpoint import WEIGHTS, CheckpointError
from dtls.degradation import SizeError
from dtls.devices import DeviceError
from dtls.tiling import MemoryShortError
from dtls.training import TrainingError
from flows.commands import StoppedError, UsageError, command
from flows.console import tell
from flows.demo import DemoOptions, demo
from flows.downscale import DownscaleOptions, downscale
from flows.fanout import RunError
from flows.report import ReportOptions, report
from flows.reproduce import ReproduceOptions, reproduce
from flows.shard import ShardOptions, shard
from flows.train import TrainOptions, train
from flows.trajectory import TrajectoryOptions, trajectory
from flows.upscale import UpscaleOptions, upscale
from flows.verify import VerifyOptions, verify

FAILURES = (CheckpointError, DeviceError, MemoryShortError, OSError, RunError, SizeError, TrainingError)

Model = TypeVar("Model")


def run_demo(options: DemoOptions) -> None:
    """Run the whole pipeline on scikit-image's photographs."""
    tell("Starting a temporary Prefect server; this takes some seconds.")
    page = demo(options)
    typer.echo(f"\nOpen the report in a browser:\n{page}")


app = typer.Typer(
    help="Image super-resolution without noise: shard, train, upscale, compare. Every folder may be a URL (s3://…).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)


def printed(run: Callable[[Model], str]) -> Callable[[Model], None]:
    """`run`, with what it returns on standard output, last."""

    @wraps(run)
    def call(options: Model) -> None:
        typer.echo(run(options))

    return call


command(app, "demo", DemoOptions, run_demo, (), "dtls demo", "dtls demo --out /tmp/demo --steps 1000")
command(
    app,
    "shard",
    ShardOptions,
    shard.fn,
    ("source", "target"),
    "dtls shard ffhq/images1024x1024 shards --size 128 --samples-per-shard 1000",
    "dtls shard ffhq/images1024x1024 shards --split published",
    "dtls shard s3://bucket/photographs.zip s3://bucket/shards --split hash --validation-share 0.05",
)
command(
    app,
    "train",
    TrainOptions,
    train.fn,
    ("source", "target"),
    "dtls train shards model --preset 16-128 --steps 50000 --batch-size 32",
    "dtls train shards small --dim 16 --dim-mults 1,2,4 --steps 500 --batch-size 8",
    "dtls train s3://bucket/shards s3://bucket/model --resume",
)
command(
    app,
    "downscale",
    DownscaleOptions,
    downscale.fn,
    ("source", "target"),
    "dtls downscale hr lr --scale 8",
    "dtls downscale hr lr --scale 4 --protocol antialias",
)
command(
    app,
    "upscale",
    UpscaleOptions,
    upscale.fn,
    ("source", "target"),
    "dtls upscale lr sr --checkpoint model --scale 8",
    "dtls upscale lr sr --checkpoint s3://bucket/model --size 128",
    "dtls upscale s3://bucket/small s3://bucket/large --method bicubic --scale 2",
)
command(
    app,
    "report",
    ReportOptions,
    printed(report.fn),
    (),
    "dtls report --hr hr --lr lr --sr dtls=sr --sr bicubic=sr-bicubic --out report",
)
command(
    app,
    "reproduce",
    ReproduceOptions,
    printed(reproduce.fn),
    (),
    "dtls reproduce --table 2 --source ffhq/train --test ffhq/validation --out reproduced",
    "dtls reproduce --table 4 --source faces --test others --out small --size 64 --dim 8 --steps 200 --batch-size 8",
)
command(
    app,
    "trajectory",
    TrajectoryOptions,
    printed(trajectory),
    ("source", "out"),
    "dtls trajectory lr figures --checkpoint model --scale 8",
    "dtls trajectory lr figures --checkpoint model --scale 8 --sampler cold --pictures 2 --columns 15",
)
command(
    app,
    "verify",
    VerifyOptions,
    verify,
    ("target",),
    "dtls verify s3://bucket/large",
    "dtls verify shards --repair",
)


@app.command(
    "import-checkpoint", epilog="Example: dtls import-checkpoint SR_16_128_s4.pt model", no_args_is_help=True
)
def import_authors_checkpoint(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="checkpoint made by the authors' code (.pt)")],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="folder for config.json and model.safetensors")],
    preset: Annotated[
        Literal["16-128", "32-512"] | None,
        typer.Option(help="sizes of the model; by default those in a name like SR_16_128_s4.pt"),
    ] = None,
) -> None:
    """Turn a checkpoint of the DTLS authors into one of ours."""
    if (target / WEIGHTS).exists():
        raise CheckpointError(f"{target}: holds a model already; choose another folder")
    config = import_checkpoint(source, target, preset).config
    typer.echo(f"{config.lr_size}→{config.size} px, stride {config.stride}, dim {config.dim} → {target}")


def main() -> None:
    """Run the command line; whatever goes wrong as it may go wrong ends in one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except StoppedError as error:
        _fail(str(error), code=130)
    except UsageError as error:
        _fail(str(error), code=2)
    except FAILURES as error:
        _fail(str(error), code=1)


def _fail(message: str, code: int) -> None:
    if os.environ.get("DTLS_TRACEBACK"):
        raise
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"dtls: {message}", style="red", markup=False)
    sys.exit(code)


def _terminated(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
