"""The command line: `dtls demo | upscale | shard | train | report | …`.

The functions that the deployments run, here without Prefect around them, the demo apart. Help that lists the commands
imports none of them, and a command imports what it needs when it runs. Exit code 2 for wrong use, 1 for failure; one
line says what, where, and what to do. DTLS_TRACEBACK=1 shows where in the code.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

import dtls
from flows.engine.stopping import TerminatedError, obeying_signals
from flows.interface.commands import command, line_of_usage
from flows.interface.console import log, printable
from flows.interface.errors import StoppedError, UsageError
from flows.interface.extras import check_extra
from flows.interface.outcome import line_of

VERSION = "--version"
STOPPED = "stopped; run it again to resume"


IMAGES, MODELS, RESULTS, RUNS = "Images", "Models", "Results", "Runs and targets"
"""The headings under which `dtls --help` lists the commands."""


class Command(NamedTuple):
    """Where a command is, in `flows`, and how it is called; `printed` if its result belongs on standard output."""

    module: str
    options: str
    panel: str
    summary: str
    arguments: tuple[str, ...]
    examples: tuple[str, ...]
    printed: bool = False


COMMANDS = {
    "demo": Command(
        "demo",
        "DemoOptions",
        IMAGES,
        "Run the whole pipeline on scikit-image's photographs: upscale, shard, train and compare.",
        (),
        ("dtls demo", "dtls demo --out /tmp/demo --steps 1000"),
    ),
    "shard": Command(
        "shard",
        "ShardOptions",
        MODELS,
        "Pack images into WebDataset shards for training.",
        ("source", "target"),
        (
            "dtls shard ffhq/images1024x1024 shards --size 128 --samples-per-shard 1000",
            "dtls shard ffhq/images1024x1024 shards --split published",
            "dtls shard s3://bucket/photographs.zip s3://bucket/shards --split hash --validation-share 0.05",
        ),
    ),
    "train": Command(
        "train",
        "TrainOptions",
        MODELS,
        "Train or fine-tune a model on shards.",
        ("source", "target"),
        (
            "dtls train shards model --preset 16-128 --steps 50000 --batch-size 32",
            "dtls train shards small --dim 16 --dim-mults 1,2,4 --steps 500 --batch-size 8",
            "dtls train s3://bucket/shards s3://bucket/model --resume",
            "dtls train shards edsr --method edsr --size 192 --lr-size 48 --network blocks=16",
            "dtls train shards tuned --method edsr --start photo-x4 --steps 500",
        ),
    ),
    "downscale": Command(
        "downscale",
        "DownscaleOptions",
        IMAGES,
        "Make the small images that models are trained on and tested with.",
        ("source", "target"),
        ("dtls downscale hr lr --scale 8", "dtls downscale hr lr --scale 4 --protocol antialias"),
    ),
    "degrade": Command(
        "degrade",
        "DegradeOptions",
        IMAGES,
        "Make blurred, noisy, dark or grey images, or images with holes, to test restoration with.",
        ("source", "target"),
        (
            "dtls degrade photographs grey --task colourise",
            "dtls degrade photographs blurred --task deblur:2",
            "dtls degrade photographs torn --task inpaint --masks scratches.png",
        ),
    ),
    "upscale": Command(
        "upscale",
        "UpscaleOptions",
        IMAGES,
        "Upscale every image of a folder, an archive, a bucket or shards.",
        ("source", "target"),
        (
            "dtls upscale photographs large --scale 4",
            "dtls upscale photo.jpg large --scale 4",
            "dtls upscale faces large --checkpoint faces-x8 --scale 8",
            "dtls upscale lr sr --checkpoint model --scale 8",
            "dtls upscale lr sr --checkpoint s3://bucket/model --size 128",
            "dtls upscale s3://bucket/small s3://bucket/large --method lanczos --scale 2 --dry-run",
            "dtls upscale scans.tar.gz large.zip --method spandrel:RealESRGAN_x4plus.pth --format same",
            "dtls upscale photographs large --method bicubic --size 2048 --include '*.jpg' --limit 100",
        ),
    ),
    "restore": Command(
        "restore",
        "RestoreOptions",
        IMAGES,
        "Colourise, deblur, denoise, brighten or fill every image of a folder, an archive, a bucket or shards.",
        ("source", "target"),
        (
            "dtls restore photographs whole --task inpaint --method membrane --masks scratches.png",
            "dtls restore torn whole --task inpaint --method spandrel:big-lama.pt --masks masks",
            "dtls restore grey coloured --task colourise --checkpoint model",
            "dtls restore noisy clean --task denoise:25/255 --method spandrel:scunet_color_real_psnr.pth",
            "dtls restore s3://bucket/dark s3://bucket/light --task lowlight:0.25 --checkpoint s3://bucket/model",
        ),
    ),
    "generate": Command(
        "generate",
        "GenerateOptions",
        IMAGES,
        "Make synthetic images with a generative model, as a folder, an archive or shards.",
        ("model", "target"),
        (
            "dtls generate model samples --count 1000",
            "dtls generate model faces --count 1000 --upscale faces-x8 --size 128",
            "dtls generate model shards --count 10000 --samples-per-shard 1000",
            "dtls generate model edited --start photographs --strength 0.5",
            "dtls generate model between --mix 3,17 --mix-steps 7",
            "dtls generate model inverted --invert photographs",
        ),
    ),
    "report": Command(
        "report",
        "ReportOptions",
        RESULTS,
        "Measure SR images against the originals, or generated images against real ones: tables and an HTML page.",
        (),
        (
            "dtls report --hr hr --lr lr --sr dtls=sr --sr bicubic=sr-bicubic --out report",
            "dtls report --hr hr --sr edsr=results --colour y --border 4 --figures --out report",
            "dtls report --hr hr --lr lr --sr dtls=sr --rates --out report",
            "dtls report --generated samples --real faces --train training-faces --features lpips --out report",
        ),
        printed=True,
    ),
    "compare-reports": Command(
        "compare_reports",
        "CompareReportsOptions",
        RESULTS,
        "Put the runs of several reports into one table over time.",
        ("reports",),
        ("dtls compare-reports report other/report --out history",),
        printed=True,
    ),
    "reproduce": Command(
        "reproduce",
        "ReproduceOptions",
        RESULTS,
        "Make a table or figure of the papers again, or an ablation: train what is missing and measure.",
        (),
        (
            "dtls reproduce --table 2 --source ffhq/train --test ffhq/validation --out reproduced",
            "dtls reproduce --table 4 --source faces --test others --out small --size 64 --dim 8 --steps 200 "
            "--batch-size 8",
            "dtls reproduce --table 4.1 --source faces --out schedules",
        ),
        printed=True,
    ),
    "benchmark": Command(
        "benchmark",
        "BenchmarkOptions",
        RESULTS,
        "Train methods for the same time and compare them on the same images.",
        (),
        (
            "dtls benchmark --source faces --test others --out compared --minutes 8",
            "dtls benchmark --source faces --test others --out small --methods bicubic,srcnn,dtls --size 64 "
            "--lr-sizes 8 --minutes 1",
        ),
        printed=True,
    ),
    "trajectory": Command(
        "trajectory",
        "TrajectoryOptions",
        RESULTS,
        "Draw and measure what a model makes at each timestep of sampling.",
        ("source", "out"),
        (
            "dtls trajectory lr figures --checkpoint model",
            "dtls trajectory lr figures --checkpoint model --scale 8 --sampler cold --images 2 --columns 15",
            "dtls trajectory blurred figures --checkpoint deblurring --strength 0.5",
            "dtls trajectory gaussian figures --checkpoint ddpm --sampling-steps 50",
        ),
        printed=True,
    ),
    "status": Command(
        "status",
        "StatusOptions",
        RUNS,
        "Print how far a run is, from what is stored at its target.",
        ("target",),
        ("dtls status s3://bucket/large", "dtls status model"),
        printed=True,
    ),
    "verify": Command(
        "verify",
        "VerifyOptions",
        RUNS,
        "Recheck every file of a target against its receipts, and repair it.",
        ("target",),
        ("dtls verify s3://bucket/large", "dtls verify shards --repair"),
    ),
    "deploy": Command(
        "deploy",
        "DeployOptions",
        RUNS,
        "Register the deployments of dtls at a Prefect server.",
        (),
        ("dtls deploy --pool dtls",),
        printed=True,
    ),
    "import-checkpoint": Command(
        "import_checkpoint",
        "ImportOptions",
        MODELS,
        "Convert a checkpoint of the DTLS authors' code.",
        ("source", "target"),
        ("dtls import-checkpoint SR_16_128_s4.pt model",),
        printed=True,
    ),
}
ALIASES = {"compare": "benchmark"}
"""Commands by the names that they had in the version before."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dtls {dtls.__version__}")
        raise typer.Exit


def _show_log() -> None:
    """Print the log of this project's own modules, at the level that DTLS_LOG names."""
    if level := os.environ.get("DTLS_LOG"):
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for name in ("dtls", "storage", "reports", "flows"):
            logging.getLogger(name).setLevel(level.upper())


def main() -> None:
    """Run the command line; whatever goes wrong as it may go wrong ends in one line and an exit code."""
    _show_log()
    try:
        with obeying_signals():
            sys.exit(command_line()(prog_name="dtls", standalone_mode=False))
    except (StoppedError, KeyboardInterrupt):
        _fail(STOPPED, code=130)
    except TerminatedError:
        _fail(STOPPED, code=143)
    except UsageError as error:
        _fail(str(error), code=2)
    except TyperException as error:
        _fail(line_of_usage(error), code=2)
    except Exception as error:
        if (line := line_of(error)) is None:
            raise
        _fail(line, code=1)


class _Group(TyperGroup):
    """Commands that are known by name and summary until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        return name, full(name) if name in (*COMMANDS, *ALIASES) else found, rest


AskVersion = Annotated[
    bool, typer.Option(VERSION, help="Show the version and exit.", is_eager=True, callback=_version)
]


def _options(*, _: AskVersion = False) -> None:
    """What comes before a command."""


def command_line() -> Any:
    """All commands, as Typer's group; each has its options once it is called."""
    app = _app()
    for name, found in COMMANDS.items():
        app.command(name, help=found.summary, rich_help_panel=found.panel)(_nothing)
    for name in ALIASES:
        app.command(name, hidden=True)(_nothing)
    return get_command(app)


def full(name: str) -> Any:
    """The command called `name`, with its options: its module is imported."""
    app, found = _app(), COMMANDS[ALIASES.get(name, name)]
    module = import_module(f"flows.{found.module}")
    flow = getattr(module, found.module)
    run: Callable[[Any], Any] = _demo(flow) if name == "demo" else getattr(flow, "fn", flow)
    options = getattr(module, found.options)
    shown = _printed(run) if found.printed else run
    command(app, name, options, shown, found.arguments, *found.examples, summary=found.summary)
    group: Any = get_command(app)
    return group.commands[name]


def _nothing() -> None:
    """The place of a command that is not called."""


def _app() -> typer.Typer:
    return typer.Typer(
        cls=_Group,
        help="Image super-resolution and restoration: upscale and restore folders and buckets, train models on your "
        "images, measure the results. "
        "Every folder may be a URL (s3://…).",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="markdown",
        callback=_options,  # with it, one command alone is still called by its name
    )


def _demo(demo: Callable[[Any], str]) -> Callable[[Any], None]:
    @wraps(demo)
    def run(options: Any) -> None:
        for extra in ("demo", "train"):
            check_extra(extra, "dtls demo")
        log("Starting a temporary Prefect server; this takes some seconds.")
        page = demo(options)
        typer.echo(f"\nOpen the report in a browser:\n{page}")

    return run


def _printed(run: Callable[[Any], str]) -> Callable[[Any], None]:
    """`run`, with what it returns on standard output, last."""

    @wraps(run)
    def call(options: Any) -> None:
        typer.echo(run(options))

    return call


def _fail(message: str, code: int) -> None:
    if os.environ.get("DTLS_TRACEBACK"):
        raise
    if not message:
        sys.exit(code)
    line = printable(f"dtls: {message}")
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, style="red", markup=False)
    sys.exit(code)
