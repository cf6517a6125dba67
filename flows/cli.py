"""The command line: `dtls demo | shard | train | downscale | upscale | report | reproduce | …`.

The functions that the deployments run, here without Prefect around them, the demo apart. Only the module of the
command that was called is imported, as torch alone takes seconds. Exit code 2 for wrong use, 1 for failure; one line
says what, where, and what to do. DTLS_TRACEBACK=1 shows where in the code.
"""

import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from flows.engine.stopping import TerminatedError, obeying_signals
from flows.interface.commands import command
from flows.interface.console import printable, tell
from flows.interface.errors import StoppedError, UsageError
from flows.interface.outcome import failures

VERSION = "--version"
STOPPED = "stopped; run it again to go on"


class Command(NamedTuple):
    """Where a command is, in `flows`, and how it is called; `printed` if its result belongs on standard output."""

    module: str
    options: str
    arguments: tuple[str, ...]
    examples: tuple[str, ...]
    printed: bool = False


COMMANDS = {
    "demo": Command("demo", "DemoOptions", (), ("dtls demo", "dtls demo --out /tmp/demo --steps 1000")),
    "shard": Command(
        "shard",
        "ShardOptions",
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
        ("source", "target"),
        ("dtls downscale hr lr --scale 8", "dtls downscale hr lr --scale 4 --protocol antialias"),
    ),
    "upscale": Command(
        "upscale",
        "UpscaleOptions",
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
    "report": Command(
        "report",
        "ReportOptions",
        (),
        (
            "dtls report --hr hr --lr lr --sr dtls=sr --sr bicubic=sr-bicubic --out report",
            "dtls report --hr hr --sr edsr=results --colour y --border 4 --figures --out report",
        ),
        printed=True,
    ),
    "compare-reports": Command(
        "compare_reports",
        "CompareReportsOptions",
        ("reports",),
        ("dtls compare-reports report other/report --out history",),
        printed=True,
    ),
    "reproduce": Command(
        "reproduce",
        "ReproduceOptions",
        (),
        (
            "dtls reproduce --table 2 --source ffhq/train --test ffhq/validation --out reproduced",
            "dtls reproduce --table 4 --source faces --test others --out small --size 64 --dim 8 --steps 200 "
            "--batch-size 8",
        ),
        printed=True,
    ),
    "benchmark": Command(
        "benchmark",
        "BenchmarkOptions",
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
        ("source", "out"),
        (
            "dtls trajectory lr figures --checkpoint model --scale 8",
            "dtls trajectory lr figures --checkpoint model --scale 8 --sampler cold --images 2 --columns 15",
        ),
        printed=True,
    ),
    "status": Command(
        "status", "StatusOptions", ("target",), ("dtls status s3://bucket/large", "dtls status model"), printed=True
    ),
    "verify": Command(
        "verify", "VerifyOptions", ("target",), ("dtls verify s3://bucket/large", "dtls verify shards --repair")
    ),
    "import-checkpoint": Command(
        "import_checkpoint",
        "ImportOptions",
        ("source", "target"),
        ("dtls import-checkpoint SR_16_128_s4.pt model",),
        printed=True,
    ),
}
ALIASES = {"compare": "benchmark"}
"""Commands by the names that they had in the version before."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dtls {version('dtls')}")
        raise typer.Exit


def main() -> None:
    """Run the command line; whatever goes wrong as it may go wrong ends in one line and an exit code."""
    called = sys.argv[1] if len(sys.argv) > 1 else ""
    names = [called] if called in (*COMMANDS, *ALIASES) else [] if called == VERSION else list(COMMANDS)
    try:
        with obeying_signals():
            _app(names)()
    except (StoppedError, KeyboardInterrupt):
        _fail(STOPPED, code=130)
    except TerminatedError:
        _fail(STOPPED, code=143)
    except UsageError as error:
        _fail(str(error), code=2)
    except Exception as error:
        if not isinstance(error, failures()):
            raise
        _fail(str(error), code=1)


AskVersion = Annotated[
    bool, typer.Option(VERSION, help="Show the version and exit.", is_eager=True, callback=_version)
]


def _options(*, _: AskVersion = False) -> None:
    """What comes before a command."""


def _app(names: list[str]) -> typer.Typer:
    app = typer.Typer(
        help="Image super-resolution without noise: shard, train, upscale, compare. Every folder may be a URL (s3://…).",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="markdown",
        callback=_options,  # with it, one command alone is still called by its name
    )
    for name in names:
        found = COMMANDS[ALIASES.get(name, name)]
        module = import_module(f"flows.{found.module}")
        flow = getattr(module, found.module)
        run: Callable[[Any], Any] = _demo(flow) if name == "demo" else getattr(flow, "fn", flow)
        options = getattr(module, found.options)
        command(app, name, options, _printed(run) if found.printed else run, found.arguments, *found.examples)
    return app


def _demo(demo: Callable[[Any], str]) -> Callable[[Any], None]:
    @wraps(demo)
    def run(options: Any) -> None:
        tell("Starting a temporary Prefect server; this takes some seconds.")
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
    line = printable(f"dtls: {message}")
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, style="red", markup=False)
    sys.exit(code)
