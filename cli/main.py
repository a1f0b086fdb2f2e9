"""The `fastseq` command: finds the subcommand, and turns every failure into one line.

A subcommand lives in the module of its name, as `command`, and is imported only when it runs;
HOMES says where the others do.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from fastseq.errors import FastseqError, FastseqWarning, printable

from .options import Common, Interrupted, common_options, example

# name: what `fastseq --help` says
COMMANDS = {
    "sample": "Write sample corpora made from Python's own documentation.",
    "index": "Index Parquet files, folders or globs.",
    "search": "Search an index: one query, or a file of them.",
    "evaluate": "Score a run against relevance judgements.",
    "features": "Make a document-term matrix: counts, TF-IDF or BM25 weights.",
    "fit-lstm": "Train an LSTM: classifier, tagger, language model or forecaster.",
    "fit-gru": "Train a GRU for the same tasks.",
    "fit-rnn": "Train a plain recurrent network for the same tasks.",
    "fit-fasttext-classifier": "Train FastText's classifier of texts.",
    "predict": "Label, tag or forecast with a trained model.",
    "test": "Measure a trained model on data with known answers.",
    "generate": "Write text with a language model.",
    "fit-word2vec": "Learn word vectors (Word2Vec).",
    "fit-fasttext": "Learn word vectors that are made of n-grams' (FastText).",
    "fit-glove": "Learn word vectors (GloVe).",
    "phrases": "Find phrases: words that belong together.",
    "neighbors": "Find the words nearest to some words.",
    "analogy": "Answer: A is to B as C is to what?",
    "test-vectors": "Measure word vectors on similarities and analogies.",
    "export": "Write word vectors to a file that other programs read.",
    "info": "Say what a folder of fastseq holds, and check that it is whole.",
    "completion": "Print the shell's completion script.",
}
# commands that are not `command` in the module of their name: (module, name in it)
HOMES = {f"fit-{cell}": ("fit", cell) for cell in ("lstm", "gru", "rnn")}
HOMES["fit-word2vec"] = ("fit_vectors", "word2vec")
HOMES["fit-fasttext"] = ("fit_vectors", "fasttext")
HOMES["fit-glove"] = ("fit_vectors", "glove")
HOMES["fit-fasttext-classifier"] = ("fit_fasttext_classifier", "command")
HOMES["test-vectors"] = ("test_vectors", "command")

# how the library's errors write a parameter: overwrite=True, text_column=…, on_invalid="replace",
# or a name of several words alone, which no quoted value, path or listed column is
_PARAMETER = re.compile(
    r"""\b([a-z]\w*)=(?:True|…|"([^"]*)")"""
    r"""|(?<![\w/\\.:'"-])([a-z]\w*_\w+)(?![\w/\\.:'"=-]| \((?!now))""",
    re.ASCII,
)


class Commands(click.Group):
    """A group that knows its commands by name, and prints one line for any error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        home, name = HOMES.get(cmd_name, (cmd_name, "command"))
        module = importlib.import_module("." + home, __package__)
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()), col_max=12)

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", FastseqWarning)
            warnings.showwarning = _notice(ctx.ensure_object(Common), warnings.showwarning)
            try:
                return super().invoke(ctx)
            except FastseqError as error:
                command = self.get_command(ctx, ctx.invoked_subcommand or "")
                raise click.ClickException(_in_options(str(error), command)) from error

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            # here and not at exit, so that a reader that went away or a full disk is met below
            sys.stdout.flush()
        except click.UsageError as error:
            _fail(_usage(error), 2)
        except Interrupted as error:
            _fail(error.format_message(), error.exit_code, prefix="")
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _fail("Interrupted", 130, prefix="")
        except FastseqError as error:
            _fail(str(error), 1)
        except BrokenPipeError:
            _give_up_stdout()
            sys.exit(1)
        except MemoryError:
            _fail(_memory_advice(args), 1)
        except OSError as error:
            try:
                sys.stdout.flush()
            except OSError:
                _give_up_stdout()
            _fail(_os_message(error), 1)
        sys.exit(code if isinstance(code, int) else 0)


def _notice(common: Common, others: Callable[..., None]) -> Callable[..., None]:
    """What prints warnings: one line for each different FastseqWarning, unless --quiet is given;
    those of other packages as before."""
    printed: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if not issubclass(category, FastseqWarning):
            others(message, category, *where)
            return
        text = printable(" ".join(str(message).split()))
        if text not in printed:
            printed.add(text)
            common.say(f"Notice: {text}")

    return show


def _fail(message: str, code: int, prefix: str = "Error: ") -> None:
    click.echo(prefix + printable(" ".join(message.split())), err=True)
    sys.exit(code)


def _in_options(message: str, command: click.Command | None) -> str:
    """The message with options of the command for parameters of Python."""
    flags = {flag for param in (command.params if command else ()) for flag in param.opts}

    def option(found: re.Match[str]) -> str:
        name, value = found[1] or found[3], found[2]
        for flag in (f"--{name}", f"--{name.removesuffix('s')}"):
            if (flag := flag.replace("_", "-")) in flags:
                return flag if value is None else f"{flag} {value}"
        return found[0]

    return _PARAMETER.sub(option, message)


def _memory_advice(args: Sequence[str] | None) -> str:
    """What to lower: a training holds a batch, everything else what --memory allows."""
    words = sys.argv[1:] if args is None else list(args)
    trains = any(word.startswith("fit-") for word in words[:1])
    lower = "--batch-size, --hidden or --embedding" if trains else "--memory"
    return f"out of memory; try a smaller {lower}, or fewer --threads"


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
    return f"{message}{hint}"


def _os_message(error: OSError) -> str:
    if error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return error.strerror or str(error) or type(error).__name__


def _give_up_stdout() -> None:
    """Whoever reads stdout is gone, or its disk is full: the interpreter flushes it once more when
    it ends, which must neither complain nor change the exit code."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example(
        "fastseq sample demo",
        "fastseq index demo/docs.parquet",
        'fastseq search "parse arguments"',
        "fastseq fit-lstm demo/labelled.parquet --valid demo/labelled_test.parquet",
    ),
)
@common_options
@click.version_option(package_name="fastseq")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Search, text features, word vectors and recurrent models over Parquet."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line; the entry point of the `fastseq` script."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            # an index holds any text; a terminal of another encoding shows what it can
            stream.reconfigure(errors="backslashreplace")
    code: Any = 0
    try:
        cli(prog_name="fastseq")
    except SystemExit as leaving:
        code = leaving.code
    # Every file is closed by now. Taking Numba and LLVM down in order would cost 0.2 s more.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else code is not None)
