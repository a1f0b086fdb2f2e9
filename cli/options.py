"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from fastseq.errors import printable

F = TypeVar("F", bound=Callable[..., Any])

# packages of fastseq.kernels, as the notice of a compilation names them
DOMAINS = {
    "core": "selection of the best", "simd": "matrix products", "text": "text analysis",
    "search": "index and search", "nn": "network layers", "vectors": "word vectors",
}  # fmt: skip

FILE = click.Path(path_type=Path)
DEFAULT_INDEX = ".fastseq/index"
DEFAULT_MODEL = ".fastseq/model"


class Interrupted(click.ClickException):
    """Ctrl-C during training; the message says how it can be resumed."""

    exit_code = 130


class StoppedBySignal(Interrupted):
    """SIGTERM instead of Ctrl-C."""

    exit_code = 143


@dataclass
class Common:
    """What --threads and --quiet said, before or after the command's name."""

    threads: int | None = None
    quiet: bool = False

    def say(self, message: str) -> None:
        """A line for the person at the keyboard, on stderr; nothing when --quiet."""
        if not self.quiet:
            click.echo(printable(message), err=True)

    def say_met(self, reports: Mapping[str, Any], *parts: str) -> None:
        """What was met while reading that a person should know of: the reports of a model, those
        of the parts named."""
        for part in parts:
            report = reports.get(part)
            for line in [] if report is None else report.messages():
                self.say(f"{part}: {line}")

    def announce_compilation(self) -> None:
        """Name what this run must compile before it can go on, if anything."""
        from fastseq.kernels.core.jit import on_compile

        on_compile(
            lambda domain: self.say(
                f"Compiling kernels for this machine (once): {DOMAINS.get(domain, domain)}…"
            )
        )


pass_common = click.make_pass_decorator(Common, ensure=True)


def common_options(function: F) -> F:
    """Add --threads and --quiet, which may stand before or after the command's name."""
    function = click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_set_quiet,
        help="Print results and errors only.",
    )(function)
    return click.option(
        "--threads",
        type=int,
        metavar="N",
        expose_value=False,
        callback=_set_threads,
        help="Threads to work with.  [default: all cores]",
    )(function)


def index_option(*names: str, help: str) -> Callable[[F], F]:
    """The option that says where the index is, else $FASTSEQ_INDEX, else .fastseq/index."""
    return click.option(
        *names,
        "index_path",
        type=click.Path(path_type=Path),
        metavar="INDEX",
        default=DEFAULT_INDEX,
        envvar="FASTSEQ_INDEX",
        show_default=True,
        show_envvar=True,
        help=help,
    )


def model_option(*names: str, help: str) -> Callable[[F], F]:
    """The option that says where a model goes, else $FASTSEQ_MODEL, else .fastseq/model."""
    return click.option(
        *names,
        "model_path",
        type=click.Path(path_type=Path),
        metavar="MODEL",
        default=DEFAULT_MODEL,
        envvar="FASTSEQ_MODEL",
        show_default=True,
        show_envvar=True,
        help=help,
    )


def model_argument(function: F) -> F:
    """The argument that says where a model is, as `model_path`."""
    return click.argument("model_path", metavar="MODEL", type=click.Path(path_type=Path))(function)


def overwrite_option(function: F) -> F:
    """Add --overwrite, whose help is the rule for every output: fastseq.store.outputs."""
    return click.option(
        "--overwrite",
        is_flag=True,
        help="Replace existing outputs. Without it only a file that fastseq wrote, as the same "
        "kind of output, is replaced; an input of the command never is.",
    )(function)


def device_option(function: F) -> F:
    """Add --device."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where to compute.",
    )(function)


def skip_bad_lines_option(function: F) -> F:
    """Add --skip-bad-lines, of files of word vectors."""
    return click.option(
        "--skip-bad-lines",
        is_flag=True,
        help="Skip damaged lines of a file of word vectors, and count them.",
    )(function)


def corpus_options(function: F) -> F:
    """Add --id-column and --text-column, as `id_column` and the tuple `text_columns`."""
    id_column = click.option(
        "--id-column", metavar="C", help="Column of ids.  [default: id, doc_id or _id]"
    )
    return id_column(text_column_option(function))


def text_column_option(function: F) -> F:
    """Add --text-column, as the tuple `text_columns`."""
    return click.option(
        "--text-column",
        "text_columns",
        metavar="C",
        multiple=True,
        help="Column of text; may be repeated.  [default: text, else the only one of strings]",
    )(function)


def training_options(output: Callable[[F], F]) -> list[Any]:
    """CORPUS, where the output goes and what to validate on: of commands that train."""
    return [
        click.argument("corpus", nargs=-1, required=True, type=FILE),
        output,
        overwrite_option,
        click.option("--resume", is_flag=True, help="Continue from the checkpoint in its folder."),
        click.option(
            "--valid", type=FILE, metavar="FILE", help="Parquet to validate on after every epoch."
        ),
    ]


def format_option(*choices: str, default: str | None = None, help: str) -> Callable[[F], F]:
    """The --format option."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(choices),
        default=default,
        show_default=default is not None,
        help=help,
    )


def example(*lines: str) -> str:
    """The epilog of a help page: commands to copy."""
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
