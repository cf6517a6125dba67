"""From the options of a flow to a command: each field becomes an argument or an option, with its bounds and words."""

import inspect
import typing
from collections.abc import Callable, Container
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from typer.exceptions import TyperException

from flows.interface.errors import StoppedError, UsageError
from flows.interface.options import HOW, RESULTS, RUNNING, WHAT, Options, Panels

PANELS = (WHAT, HOW, RESULTS, RUNNING)
"""In the order of `--help`."""

BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
"""Pydantic checks them, and reports which was not kept."""


COMPLAINTS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "needs at least {min_length}",
    "missing": "is required",
    "extra_forbidden": "is no option here",
}
"""What pydantic's kinds of errors are called in plain words."""
WITH_INPUT = {kind for kind in COMPLAINTS if not kind.startswith("string_")} - {"missing", "extra_forbidden"}
"""Those that repeat what was given, which is no address."""
NUMBERS = {
    "Input should be a valid integer": "must be a whole number",
    "Input should be a valid number": "must be a number",
}
"""What the parser's messages on numbers, by how they begin, are called in plain words."""

Model = TypeVar("Model", bound=Options)


def command(
    app: typer.Typer,
    name: str,
    model: type[Model],
    run: Callable[[Model], object],
    arguments: tuple[str, ...],
    *examples: str,
    summary: str | None = None,
) -> None:
    """Add the command `name` to `app`: `run` on a `model` made of the command line; `arguments` are positional.

    summary: what the command does, for its help; by default the docstring of `run`.
    """

    def call(**values: Any) -> None:
        given = {field: value for field, value in values.items() if value is not None}
        try:
            run(checked(model, given, arguments))
        except KeyboardInterrupt as error:
            raise StoppedError from error

    order = [*arguments, *model.in_order()]
    panels = {field: _panel(model, field) for field in model.model_fields}

    def place(field: str) -> tuple[bool, int, int]:
        return field not in arguments, PANELS.index(panels[field]), order.index(field)

    parameters = [
        _parameter(field, model.model_fields[field], field in arguments, panels[field])
        for field in sorted(model.model_fields, key=place)
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = summary or run.__doc__
    epilog = "Examples:\n\n" + "\n\n".join(examples)
    app.command(name, epilog=epilog, no_args_is_help=bool(arguments))(call)


def checked(model: type[Model], values: dict[str, Any], arguments: Container[str] = ()) -> Model:
    """The options, or a UsageError with one line for all that is wrong; `arguments` are called without dashes."""
    try:
        return model(**values)
    except ValidationError as error:
        errors = error.errors()
        inner = [e for e in errors if not any(e["loc"] == other["loc"][:-1] for other in errors if other["loc"])]
        raise UsageError("; ".join(_complaint(e, arguments) for e in inner)) from error


def line_of_usage(error: TyperException) -> str:
    """What is wrong with a command line that its parser refuses; nothing where it has printed the help instead."""
    problem = cast(typer.BadParameter, error)
    words, param, ctx = problem.format_message().strip().rstrip("."), getattr(problem, "param", None), problem.ctx
    if not words or ctx is None:
        return words
    if param is None:
        return f"{words}; `{ctx.command_path} --help` lists what there is"
    name = param.opts[0] if param.param_type_name == "option" else str(param.name).upper()
    if not words.startswith("Missing"):
        number = next((plain for begins, plain in NUMBERS.items() if problem.message.startswith(begins)), None)
        return (
            f"{name} {number}" if number else f"{name}: {problem.message.removeprefix('Value error, ').rstrip('.')}"
        )
    examples = (ctx.command.epilog or "").split("\n\n")[1:]
    fitting = next((example for example in examples if name in example), *examples[:1])
    return f"{name} is required, e.g. {fitting}"


def _complaint(error: ErrorDetails, arguments: Container[str]) -> str:
    """What is wrong with an option, in a phrase."""
    where = ".".join(part for part in error["loc"] if isinstance(part, str))
    where = where.upper() if where in arguments else where and f"--{where.replace('_', '-')}"
    context = {name: f"{x:g}" if isinstance(x, float) else x for name, x in error.get("ctx", {}).items()}
    if where and (words := COMPLAINTS.get(error["type"])):
        given = f"{error['input']:g}" if isinstance(error["input"], float) else error["input"]
        got = f" (got {given!s:.40})" if isinstance(given, int | float | str) and error["type"] in WITH_INPUT else ""
        return f"{where} {words.format_map(context)}{got}"
    message = str(error["msg"]).replace("Value error, ", "")
    return f"{where}: {message}" if where else message


def _panel(model: type[Options], field: str) -> str:
    """The heading of an option, as the class says that has added it."""
    owner = next(base for base in model.__mro__ if field in inspect.get_annotations(base))
    panels: Panels = vars(owner).get("panels", {})
    default: str = vars(owner).get("panel", HOW)
    return next((panel for panel, names in panels.items() if field in names.split()), default)


def _parameter(name: str, info: FieldInfo, positional: bool, panel: str) -> inspect.Parameter:
    kind, words = _kind(info.annotation), _words(info)
    if positional:
        return _keyword(name, Annotated[kind, typer.Argument(help=words)], ...)
    flag = f"--{name.replace('_', '-')}"
    if kind is bool and info.default is not False:  # it is on, or a preset may have it on
        flag += f"/--no-{name.replace('_', '-')}"
    if kind == list[str]:
        extra = typer.Option(flag, help=words, metavar=_listed(info.annotation), rich_help_panel=panel)
        return _keyword(name, Annotated[kind, extra], ... if info.is_required() else [])
    default = (",".join(map(str, info.default)) or None) if isinstance(info.default, tuple) else info.default
    shown = default not in (None, False)
    metavar = "NAME" if _is_choice(kind) else None
    extra = typer.Option(flag, help=words, metavar=metavar, show_default=shown, rich_help_panel=panel)
    if info.is_required():
        return _keyword(name, Annotated[kind, extra], ...)
    return _keyword(name, Annotated[kind | None if default is None else kind, extra], default)


def _words(info: FieldInfo) -> str:
    """The description of a field with its bounds and its choices: in the column of types these take half the page."""
    words = info.description or ""
    bounds = [
        f"{bound} {getattr(limit, name):,}"
        for limit in info.metadata
        for name, bound in BOUNDS.items()
        if hasattr(limit, name)
    ]
    if bounds:
        words += f" ({', '.join(bounds)})"
    kind = _kind(info.annotation)
    choices = [str(choice) for choice in get_args(kind)] if _is_choice(kind) else []
    return words if all(choice in words for choice in choices) else f"{words} ({', '.join(choices)})"


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _listed(annotation: Any) -> str:
    """What one of several values of an option is called."""
    if get_origin(annotation) is dict:
        return "NAME=VALUE" if get_args(annotation) == (str, str) else "NAME=FOLDER"
    return "PATTERN" if get_args(annotation) == (str,) else "ADDRESS"


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _kind(annotation: Any) -> Any:
    """What the command line makes of a field's type: int, float, bool, a choice, a list of texts, or a text."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, type(int | None)):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) in (dict, list):
        return list[str]
    if annotation in (int, float, bool) or _is_choice(annotation):
        return annotation
    return str
