"""From options to a command: what `--help` says is what is refused, and it fits a page of 80 columns."""

import re
from importlib import import_module
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from flows.cli import COMMANDS, full
from flows.interface.commands import checked, command
from flows.interface.errors import UsageError
from flows.interface.options import Options


class Some(Options):
    """Options of many kinds."""

    over: float = Field(2, gt=1, le=64, description="how far")
    under: int | None = Field(None, ge=8, lt=100_000, description="how much")
    kind: Literal["soft", "hard", "brittle", "elastic", "plastic"] = Field("soft", description="of what kind")
    told: Annotated[Literal["a1", "a2"] | None, Field(description="a1 or a2")] = None
    first: Literal[0, 1] = Field(0, description="the first")
    name: str = Field("some", min_length=1, max_length=20, description="a name")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(callback=lambda: None, rich_markup_mode="markdown")

    def some(options: Some) -> None:
        """Do something."""
        typer.echo(repr(options.over))

    command(app, "some", Some, some, ())
    return app


def shown(app: typer.Typer, *arguments: str, width: int = 80) -> str:
    """The help, its frames and line ends left out."""
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": str(width), "TERM": "dumb"})
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= width
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stdout).split())


@pytest.mark.parametrize("width", [80, 120])
def test_help_tells_the_bounds_that_are_kept(app: typer.Typer, width: int) -> None:
    told = shown(app, "some", width=width)
    assert "how far (more than 1, at most 64)" in told
    assert "how much (at least 8, less than 100,000)" in told


def test_help_tells_choices_once(app: typer.Typer) -> None:
    told = shown(app, "some")
    assert "of what kind (soft, hard, brittle, elastic, plastic)" in told
    assert "the first (0, 1)" in told
    assert told.count("a2") == 1


@pytest.mark.parametrize(("value", "says"), [("1", "greater than 1 (got 1)"), ("65", "at most 64 (got 65)")])
def test_a_bound_that_is_not_kept_is_told_in_one_line(app: typer.Typer, value: str, says: str) -> None:
    result = CliRunner().invoke(app, ["some", "--over", value])
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == f"--over must be {says}"
    with pytest.raises(UsageError, match=re.escape(says)):
        checked(Some, {"over": value})


def test_what_is_wrong_with_a_part_is_not_told_of_the_whole_again() -> None:
    model: type[Options] = import_module("flows.benchmark").BenchmarkOptions
    with pytest.raises(UsageError) as error:
        checked(model, {"source": "a", "test": "b", "out": "c", "lr_sizes": "eight"})
    assert str(error.value) == "--lr-sizes must be a whole number (got eight)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"under": "many"}, "--under must be a whole number (got many)"),
        ({"under": 8.5}, "--under must be a whole number (got 8.5)"),
        ({"under": 100_000}, "--under must be less than 100000 (got 100000)"),
        ({"over": "nan"}, "--over must be at most 64 (got nan)"),
        ({"over": "x" * 1000}, f"--over must be a number (got {'x' * 40})"),
        ({"over": None}, "--over must be a number"),
        ({"kind": "hot"}, "--kind must be 'soft', 'hard', 'brittle', 'elastic' or 'plastic' (got hot)"),
        ({"name": ""}, "--name must not be empty"),
        ({"name": "secret" * 9}, "--name must have at most 20 characters"),
        ({"name": 7}, "--name must be a text"),
        ({"depth": 3}, "--depth is no option here"),
        ({"over": 1, "under": 7}, "--over must be greater than 1 (got 1); --under must be at least 8 (got 7)"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as error:
        checked(Some, given)
    assert str(error.value) == says


def test_what_is_within_the_bounds_is_taken(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["some", "--over", "1.001"]).stdout == "1.001\n"


@pytest.mark.parametrize("name", ["upscale", "train", "shard", "report"])
def test_help_leaves_room_for_words_at_80_columns(name: str) -> None:
    found, app = COMMANDS[name], typer.Typer(callback=lambda: None)
    module = import_module(f"flows.{found.module}")
    command(app, name, getattr(module, found.options), print, found.arguments)
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    (last,) = [line for line in result.stdout.splitlines() if line.strip("│ ").startswith("--help")]
    assert last.index("Show this message") <= 54


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "report"])
def test_a_command_with_no_more_than_it_needs_takes_the_defaults(name: str) -> None:
    found, app, taken = COMMANDS[name], typer.Typer(callback=lambda: None), list[Options]()
    model: type[Options] = getattr(import_module(f"flows.{found.module}"), found.options)
    command(app, name, model, taken.append, found.arguments)
    needed = [field for field, info in model.model_fields.items() if info.is_required()]
    lists = {"reports": ["2"]} if name == "compare-reports" else {}
    tasks = {"task": "deblur:2"} if "task" in needed else {}
    wanted = {**dict.fromkeys(needed, "2"), **lists, **tasks, **({"scale": "2"} if name == "upscale" else {})}
    flags = [word for field in wanted if field not in found.arguments for word in (f"--{field}", str(wanted[field]))]
    assert CliRunner().invoke(app, [name, *("2" for _ in found.arguments), *flags]).exception is None
    assert taken == [model.model_validate(wanted)]


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_under_four_headings_in_one_order(name: str) -> None:
    model: type[Options] = getattr(import_module(f"flows.{COMMANDS[name].module}"), COMMANDS[name].options)
    named = [n for owner in model.__mro__ for names in vars(owner).get("panels", {}).values() for n in names.split()]
    assert set(named) <= set(model.model_fields)
    assert len(named) == len(set(named))
    panels: dict[str, None] = dict.fromkeys(
        p.rich_help_panel for p in full(name).params if p.param_type_name == "option" and p.name != "help"
    )
    assert list(panels) == [panel for panel in ("What", "How", "Results", "Running") if panel in panels]
