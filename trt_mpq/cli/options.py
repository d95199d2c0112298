"""Commands as Typer reads them: the option of a setting is declared once, as a field of the settings.

From its field it takes name, type, default and help. It has no default of its own: a command is given only what the
user typed, so that only that overrides a job file or a run folder.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from trt_mpq.cli.errors import guarded
from trt_mpq.cli.output import Output
from trt_mpq.errors import RuntimeFailure

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from trt_mpq.settings import Option

Source = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_OR_JOB",
        show_default=False,
        help="ONNX model, job file (.toml), torch module:factory, or Hugging Face model folder.",
    ),
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", show_default=False, help="Run folder to go on with.")]
NewRunDir = Annotated[
    Path, typer.Option("--output", "-o", help="Run folder; the same command resumes there.", rich_help_panel="Output")
]
Json = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output.", rich_help_panel="Output")]
SaveEngine = Annotated[
    Path | None,
    typer.Option(
        "--save-engine", metavar="FILE", help="Where a copy of the engine goes.", show_default=False,
        rich_help_panel="Output",
    ),
]  # fmt: skip
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Prepare the model and check everything, then say what would be done.",
        rich_help_panel="Output",
    ),
]  # fmt: skip
Details = Annotated[bool, typer.Option("--details", help="Also one line per group.", rich_help_panel="Output")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code that a job file or run folder names: your own metric, plugin libraries, a Ray cluster.",
        rich_help_panel="Running",
    ),
]
Sign = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="KEY",
        help="Private Ed25519 key (PEM) to sign the engine's manifest with; --verify of `run` and `triton` checks it.",
        show_default=False,
        rich_help_panel="Engine",
    ),
]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify", metavar="KEY", help="Public key (PEM) with which the manifest must be signed.", show_default=False
    ),
]
_Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no tables: errors only.", rich_help_panel="Output")
]
_Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Progress in lines too, and the traceback of an error.", rich_help_panel="Output"
    ),
]

_FEWEST_MIB = 512
"""What the libraries take for themselves; with less they do not even start."""
_MemoryMib = Annotated[
    int | None,
    typer.Option(
        "--memory-mib",
        metavar="MIB",
        min=_FEWEST_MIB,
        help="MiB of memory that each process of the command may take, on Linux; wanting more is an error.",
        show_default=False,
        rich_help_panel="Running",
    ),
]


def _show_all(context: typer.Context, wanted: bool) -> None:
    """Show the help with every option, and exit."""
    if wanted:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit


_HelpAll = Annotated[
    bool,
    typer.Option("--help-all", help="Show every option and exit.", callback=_show_all, is_eager=True),
]


class Takes:
    """Marks a parameter of a command: the settings that it takes, of which it gets those that the user gave.

    Args:
        names: Settings, options of engines, and panels of the help for all that is in them; without any it is all.
        without: Settings and options that it does not take.
        brief: Whether the help shows those of daily use alone, and the others with --help-all.
    """

    def __init__(self, *names: str, without: tuple[str, ...] = (), brief: bool = False) -> None:
        self.names, self.without, self.brief = names, without, brief


def typer_function(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as Typer reads it, ending every failure with one line.

    For a parameter that is marked with `Takes` there are the options of those settings, for an `Output` --quiet,
    --verbose, --json and --memory-mib.
    """
    own = inspect.signature(command, eval_str=True).parameters
    read = {name: _read(parameter) for name, parameter in own.items()}

    @wraps(command)
    def function(**typed: Any) -> None:
        with _memory_of(typed.get("memory_mib")):
            command(
                **{name: made_of(*(typed[one.name] for one in options)) for name, (options, made_of) in read.items()}
            )

    every = chain.from_iterable(options for options, _ in read.values())
    parameters = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in every]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return guarded(function)


@contextmanager
def _memory_of(mib: int | None) -> Iterator[None]:
    """Let the block take so much memory; raises RuntimeFailure if it wants more."""
    if mib is None:
        yield
        return
    from trt_mpq.workers.memory import limited_memory

    try:
        with limited_memory(mib << 20):
            yield
    except MemoryError as error:
        raise RuntimeFailure(
            f"this takes more memory than --memory-mib {mib}: raise it, or choose a smaller --batch or fewer samples"
        ) from error


def _read(parameter: inspect.Parameter) -> tuple[list[inspect.Parameter], Callable[..., Any]]:
    """What Typer is to read in place of a command's `parameter`, and how its value is made of what the user typed."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    if takes := next((mark for mark in marks if isinstance(mark, Takes)), None):
        options = [_parameter(*setting, brief=takes.brief) for setting in _settings_of(takes)]
        names = [option.name for option in options]
        more = [_keyword("help_all", False, _HelpAll)] if takes.brief else []
        return [*options, *more], lambda *typed: _given(dict(zip(names, typed, strict=False)))
    if parameter.annotation is Output:
        options = [
            _keyword("quiet", False, _Quiet),
            _keyword("verbose", False, _Verbose),
            _keyword("json", False, Json),
            _keyword("memory_mib", None, _MemoryMib),
        ]
        return options, lambda quiet, verbose, json, _: Output(quiet=quiet, verbose=verbose, json=json)
    return [parameter], lambda typed: typed


def _keyword(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _given(typed: dict[str, Any]) -> dict[str, Any]:
    """The settings among the values of options that the user really gave."""
    from trt_mpq.settings import EngineOptions

    given = {name: value for name, value in typed.items() if value is not None and value != []}
    engine = {name: given.pop(name) for name in EngineOptions.model_fields if name in given}
    if "build" in engine:
        engine["build"] = "always" if engine["build"] else "never"
    return {**given, "engine": engine} if engine else given


def _settings_of(takes: Takes) -> Iterator[tuple[str, FieldInfo, Option]]:
    """Name, field and marker of every setting that is taken, in the order of the fields."""
    from trt_mpq.settings import Option, Settings

    for name, field in _fields(Settings):
        [option] = (mark for mark in field.metadata if isinstance(mark, Option))
        if name not in takes.without and (not takes.names or name in takes.names or option.panel in takes.names):
            yield name, field, option


def _fields(model: Any) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of `model`, with those of the engine's options in place of the one that holds them."""
    for name, field in model.model_fields.items():
        yield from _fields(field.annotation) if hasattr(field.annotation, "model_fields") else [(name, field)]


def _parameter(name: str, field: FieldInfo, option: Option, brief: bool = False) -> inspect.Parameter:
    kind = str if option.as_text else bool if option.switch else _typed(field.annotation)
    spelling = (option.switch or name).replace("_", "-")
    shown = typer.Option(
        f"--{spelling}/--no-{spelling}" if kind is bool else f"--{spelling}",
        help=_help(field, option, kind),
        rich_help_panel=option.panel,
        show_default=False,
        hidden=brief and not option.daily,
    )
    return _keyword(name, None, Annotated[kind | None, shown])


def _typed(annotation: Any) -> Any:
    """The type of a setting as Typer is to read it; what is a choice or a range is left to the settings to check."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _typed(next(argument for argument in arguments if argument is not NoneType))
    if origin is Annotated:
        return _typed(arguments[0])
    if origin is tuple:
        return list[arguments[0]]  # type: ignore[valid-type]
    return str if origin is Literal else annotation


def _help(field: FieldInfo, option: Option, kind: Any) -> str:
    """The field's docstring, and what else its declaration says: choices, whether it may be repeated, the default."""
    notes = []
    if get_origin(field.annotation) is Literal and kind is str:
        notes.append(f"one of {', '.join(get_args(field.annotation))}")
    if get_origin(kind) is list:
        notes.append("may be repeated")
    if not field.is_required():
        notes.append(f"default: {option.unset or _default(field.default)}")
    text = " ".join((field.description or "").split())
    return f"{text.removesuffix('.')} ({'; '.join(notes)})." if notes else text


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
