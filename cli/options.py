"""The decorator that makes commands, and the options that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from fastseq.errors import printable
from fastseq.store.locations import STDIN, Location, is_uri

Decorator = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
_STDIN_NAMED = "fastseq: standard input is named"  # key of a context's meta
# packages of fastseq.kernels, as the notice of a compilation names them
DOMAINS = {
    "core": "selection of the best", "simd": "matrix products", "text": "text analysis",
    "search": "index and search", "nn": "network layers", "vectors": "word vectors",
}  # fmt: skip


class _DataPath(click.Path):
    """A path as pathlib's; a URI, or - for standard input, as Location."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == STDIN and ctx is not None:
            if ctx.meta.get(_STDIN_NAMED):
                raise click.UsageError(
                    "standard input (-) is named twice: it can be read once", ctx
                )
            ctx.meta[_STDIN_NAMED] = True
        if isinstance(value, str) and (value == STDIN or is_uri(value)):
            return Location(value)
        return super().convert(value, param, ctx)


DATA = _DataPath(path_type=Path)


class Interrupted(click.ClickException):
    """Training ended by Ctrl-C (exit status 130) or SIGTERM (143)."""

    def __init__(self, message: str, status: int = 130) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Common:
    """The values of --threads and --quiet, given before or after the command's name, and the commit
    of an index that the command made, for the message of an error that follows it."""

    threads: int | None = None
    quiet: bool = False
    commit: str = ""

    def notify(self, message: str) -> None:
        """Print a line to stderr, unless --quiet is given."""
        if not self.quiet:
            click.echo(printable(message), err=True)

    def notify_reports(self, reports: Mapping[str, Any], *parts: str) -> None:
        """Print a model's reports on the parts of the data that it read."""
        for part in parts:
            for line in reports[part].messages() if part in reports else ():
                self.notify(f"{part}: {line}")

    def announce_compilation(self) -> None:
        """Name the kernels that are compiled from now on."""
        from fastseq.kernels.core.jit import on_compile

        on_compile(
            lambda domain: self.notify(
                f"Compiling kernels for this machine (once): {DOMAINS.get(domain, domain)}…"
            )
        )


# ---- commands


class SectionOption(click.Option):
    """An option that is listed in a section of the help page."""

    def __init__(self, *names: Any, section: str, **more: Any) -> None:
        super().__init__(*names, **more)
        self.section = section


class Command(click.Command):
    """A command whose options are listed in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def command(
    name: str, *examples: str, help: str | None = None
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function, which gets Common first and the values of its options by name.

    The command also has --threads and --quiet. Its help page has the function's docstring, unless
    `help` is given, and lists the examples.
    """

    def made(function: Callable[..., Any]) -> Command:
        passed = click.make_pass_decorator(Common, ensure=True)(function)
        found = click.command(name, cls=Command, help=help, epilog=example(*examples))(passed)
        found.params += COMMON
        return found

    return made


def example(*lines: str) -> str:
    """The end of a help page: commands to copy."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  $ {line}" for line in lines)])


def _set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    common = ctx.ensure_object(Common)
    common.quiet = common.quiet or value


def _set_threads(ctx: click.Context, _: click.Parameter, value: int | None) -> None:
    common = ctx.ensure_object(Common)
    if value is not None and not ctx.resilient_parsing:
        from fastseq.settings import thread_count

        common.threads = thread_count(value)


COMMON: list[click.Parameter] = [
    click.Option(
        ["--threads"], type=int, metavar="N", expose_value=False, callback=_set_threads,
        help="Number of threads.  [default: all cores]",
    ),
    click.Option(
        ["--quiet"], is_flag=True, expose_value=False, callback=_set_quiet,
        help="Print results and errors only.",
    ),
]  # fmt: skip

# ---- arguments and options that several commands share

corpus = click.argument("corpus", nargs=-1, required=True, type=DATA)
data = click.argument("data", nargs=-1, required=True, type=DATA)
model = click.argument("model_path", metavar="MODEL", type=FILE)
vectors = click.argument("vectors", type=FILE)

# the help text is the rule of fastseq.store.outputs
overwrite = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing outputs. Without it only a file that fastseq wrote, as the same "
    "kind of output, is replaced; an input of the command never is.",
)
skip_bad_lines = click.option(
    "--skip-bad-lines", is_flag=True, help="Skip damaged lines of a vector file, and count them."
)
id_column = click.option(
    "--id-column",
    metavar="C",
    help="Column of ids; meta.id is a field of a struct.  [default: id, doc_id or _id]",
)
memory = click.option(
    "--memory", default="1GB", show_default=True, help="Working memory, such as 256MB."
)
text_column = click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="Column of text: strings or lists of strings; may be repeated; doc.text is a field of a "
    "struct.  [default: text, else the only string column]",
)


def several(*options: Decorator) -> Callable[[F], F]:
    """Add options, in the order in which the help page lists them."""

    def added(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return added


def file(*names: str, metavar: str = "FILE", help: str, **more: Any) -> Decorator:
    """An option that names a file or folder."""
    more = {"type": FILE} | more
    return click.option(*names, metavar=metavar, help=help, **more)


def folder(kind: str, *names: str, help: str) -> Decorator:
    """The folder of an index or a model, else $FASTSEQ_KIND, else .fastseq/kind."""
    return file(
        *names, f"{kind}_path", metavar=kind.upper(), default=f".fastseq/{kind}",
        envvar=f"FASTSEQ_{kind.upper()}", show_default=True, show_envvar=True, help=help,
    )  # fmt: skip


def number(
    *names: str, help: str, default: float | None = None, kind: type[Any] = int
) -> Decorator:
    """An option with a whole number, or a float."""
    return click.option(
        *names, type=kind, metavar="X" if kind is float else "N", default=default,
        show_default=default is not None, help=help,
    )  # fmt: skip


def choice(*names: str, of: Iterable[str], default: str | None, help: str) -> Decorator:
    """An option with one of some values."""
    return click.option(
        *names, type=click.Choice([*of]), default=default, show_default=default is not None,
        help=help,
    )  # fmt: skip


def form(*forms: str, default: str | None = "table", help: str = "Output format.") -> Decorator:
    """The option --format, as the argument `form`."""
    return choice("--format", "form", of=forms, default=default, help=help)


device = choice(
    "--device", of=("auto", "cpu", "cuda"), default="auto",
    help="Device to compute on; auto is a GPU where available.",
)  # fmt: skip


def training(output: Decorator) -> Decorator:
    """The options of every command that trains."""
    return several(
        corpus,
        output,
        overwrite,
        click.option(
            "--resume", is_flag=True, help="Continue from the checkpoint in the output folder."
        ),
        file("--valid", type=DATA, help="Data to validate on after every epoch."),
    )
