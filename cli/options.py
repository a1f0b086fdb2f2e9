"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from fastseq.errors import DataError, SettingsError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_INDEX = ".fastseq/index"


@dataclass
class Common:
    """What --threads and --quiet said, before or after the command's name."""

    threads: int | None = None
    quiet: bool = False

    def say(self, message: str) -> None:
        """A line for the person at the keyboard, on stderr; nothing when --quiet."""
        if not self.quiet:
            click.echo(message, err=True)

    def announce_compilation(self) -> None:
        """Say so, once, if this run must compile a kernel first."""
        from fastseq.kernels.jit import on_first_compile

        on_first_compile(lambda: self.say("Compiling fastseq's kernels for this machine (once)…"))


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


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output file that cannot be written, before any work is done for it."""
    if path.suffix not in suffixes:
        raise SettingsError(f"{path}: the output's name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file to write to")
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")


def _set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    common = ctx.ensure_object(Common)
    common.quiet = common.quiet or value


def _set_threads(ctx: click.Context, _: click.Parameter, value: int | None) -> None:
    common = ctx.ensure_object(Common)
    if value is not None and not ctx.resilient_parsing:
        from fastseq.settings import thread_count

        common.threads = thread_count(value)
