"""The `fastseq` command: finds the subcommand, and prints every error as one line.

A subcommand has its name, with underscores, in a module that is imported only when it runs.
"""

from __future__ import annotations

import sys

try:
    import gc
    import importlib
    import os
    import re
    import warnings
    from collections.abc import Callable, Sequence
    from contextlib import suppress
    from typing import Any

    import click

    from fastseq.errors import FastseqError, FastseqWarning, printable

    from .options import COMMON, Common, Interrupted, example
except KeyboardInterrupt:
    print("Interrupted", file=sys.stderr)
    sys.exit(130)

# name: its module, its line in `fastseq --help`
COMMANDS = {
    "sample": ("sample", "Write sample corpora made from Python's own documentation."),
    "index": ("index", "Index Parquet, JSON Lines or CSV."),
    "add": ("changes", "Add documents to an index, or replace them."),
    "delete": ("changes", "Delete documents of an index by their ids."),
    "compact": ("changes", "Merge the segments of an index into one."),
    "search": ("search", "Search an index: one query, or a file of them."),
    "evaluate": ("evaluate", "Score a run against relevance judgments."),
    "features": ("features", "Make a document-term matrix: counts, TF-IDF or BM25 weights."),
    "fit-lstm": ("fit", "Train an LSTM: classifier, tagger, language model or forecaster."),
    "fit-gru": ("fit", "Train a GRU for the same tasks."),
    "fit-rnn": ("fit", "Train a plain recurrent network for the same tasks."),
    "fit-fasttext-classifier": ("fit", "Train FastText's text classifier."),
    "fit-bert": ("fit", "Fine-tune a BERT checkpoint on texts or pairs."),
    "pretrain-bert": ("fit", "Pretrain BERT on texts: masked words and next sentences."),
    "fill-mask": ("models", "Find the words that fit the masks of a text."),
    "predict": ("models", "Label, tag or forecast with a trained model."),
    "test": ("models", "Evaluate a trained model on data with known answers."),
    "answer": ("models", "Answer a question by a part of a context."),
    "generate": ("models", "Generate text with a language model."),
    "contexts": ("vectors", "Compare the vectors of a word in several texts."),
    "embed": ("embed", "Make vectors of texts with a BERT checkpoint."),
    "fit-word2vec": ("fit", "Learn word vectors (Word2Vec)."),
    "fit-fasttext": ("fit", "Learn vectors of words and character n-grams (FastText)."),
    "fit-glove": ("fit", "Learn word vectors (GloVe)."),
    "phrases": ("fit", "Find phrases: words that often occur together."),
    "neighbors": ("vectors", "Find the words nearest to some words."),
    "analogy": ("vectors", "Answer: A is to B as C is to what?"),
    "test-vectors": ("vectors", "Evaluate word vectors on similarities and analogies."),
    "export": ("vectors", "Write word vectors or a model for other programs."),
    "export-ciff": ("ciff", "Write an index in the Common Index File Format (CIFF)."),
    "import-ciff": ("ciff", "Make an index of a CIFF file of another search engine."),
    "info": ("info", "Describe an index, model or vector folder, and check its files."),
    "completion": ("completion", "Print the completion script of a shell."),
}

# parameters in error messages of the library: overwrite=True, text_column=…, on_invalid="replace",
# or a bare name with an underscore, outside of quotes, paths and lists of columns
_PARAMETER = re.compile(
    r"""\b([a-z]\w*)=(?:True|…|"([^"]*)")"""
    r"""|(?<![\w/\\.:'"-])([a-z]\w*_\w+)(?![\w/\\.:'"=-]| \((?!now))""",
    re.ASCII,
)
_BUILD_AGAIN = "build the index again with "  # before parameters of Index.build, in such messages


class Commands(click.Group):
    """A group that imports its commands by name, and prints one line for any error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __package__)
        found = getattr(module, cmd_name.replace("-", "_"))
        command: click.Command = found if isinstance(found, click.Command) else found(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            rows = [(name, text) for name, (_, text) in COMMANDS.items()]
            formatter.write_dl(rows, col_max=12)

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", FastseqWarning)
            common = ctx.ensure_object(Common)
            warnings.showwarning = _notice(common, warnings.showwarning)
            try:
                return super().invoke(ctx)
            except FastseqError as error:
                own, again, later = str(error).partition(_BUILD_AGAIN)
                command = self.get_command(ctx, ctx.invoked_subcommand or "")
                message = _in_options(own, command)
                if again:
                    message += again + _in_options(later, self.get_command(ctx, "index"))
                raise click.ClickException(message) from error
            except OSError as error:  # of a closed pipe too, which click would end quietly
                if not common.commit:
                    raise
                message = f"{_os_message(error, committed=True)} ({common.commit})"
                raise click.ClickException(message) from error

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
            # here and not at exit, so that a closed pipe or a full disk is handled below
            sys.stdout.flush()
        except click.UsageError as error:
            _fail(_usage(error), 2)
        except Interrupted as error:
            _fail(error.format_message(), error.status, prefix="")
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _fail("Interrupted", 130, prefix="")
        except FastseqError as error:
            _fail(str(error), 1)
        except BrokenPipeError:
            _flushes_stdout()
            sys.exit(1)
        except MemoryError:
            _fail(self._memory_advice(args), 1)
        except OSError as error:
            _fail(_os_message(error), 1)
        sys.exit(code if isinstance(code, int) else 0)


    def _memory_advice(self, args: Sequence[str] | None) -> str:
        """Which options to lower: training needs memory for a batch, encoding for the longest text,
        other commands for --memory, where they have it."""
        words = sys.argv[1:] if args is None else list(args)
        name = next((word for word in words if word in COMMANDS), "")
        wanted = ["--batch-size", "--hidden", "--embedding"] if name.startswith("fit-") else []
        if name in ("embed", "fit-bert", "pretrain-bert"):
            wanted = ["--max-length"] if name == "embed" else ["--batch-size", "--max-length"]
        command = self.get_command(click.Context(self), name)
        has = {option for each in command.params for option in each.opts} if command else set()
        lower = [option for option in wanted or ["--memory"] if option in has]
        if not lower:
            return "out of memory; try fewer --threads"
        last = lower.pop()
        smaller = f"{', '.join(lower)} or {last}" if lower else last
        return f"out of memory; try a smaller {smaller}, or fewer --threads"


def _notice(common: Common, others: Callable[..., None]) -> Callable[..., None]:
    """A `showwarning` that prints each FastseqWarning once, in one line, unless --quiet is given;
    warnings of other packages go to `others`."""
    printed: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if not issubclass(category, FastseqWarning):
            others(message, category, *where)
            return
        text = printable(" ".join(str(message).split()))
        if text not in printed:
            printed.add(text)
            common.notify(f"Notice: {text}")

    return show


def _fail(message: str, code: int, prefix: str = "Error: ") -> None:
    with suppress(OSError):  # the exit code is the same where stderr cannot be written either
        click.echo(prefix + printable(" ".join(message.split())), err=True)
    sys.exit(code)


def _in_options(message: str, command: click.Command | None) -> str:
    """The message with the command's options in place of Python parameters."""
    flags = {flag for param in (command.params if command else ()) for flag in param.opts}

    def option(found: re.Match[str]) -> str:
        name, value = found[1] or found[3], found[2]
        for flag in (f"--{name}", f"--{name.removesuffix('s')}"):
            if (flag := flag.replace("_", "-")) in flags:
                return flag if value is None else f"{flag} {value}"
        return found[0]

    return _PARAMETER.sub(option, message)


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
    return f"{message}{hint}"


def _os_message(error: OSError, committed: bool = False) -> str:
    """The error with its file, or standard output where that cannot be written: after a commit,
    nothing else is."""
    lost = not _flushes_stdout() or committed
    if error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    message = error.strerror or str(error) or type(error).__name__
    return f"cannot write to standard output: {message}" if lost else message


def _flushes_stdout() -> bool:
    """Whether stdout can be written. If its reader is gone or its disk is full, it is redirected to
    the null device: the flush at exit must neither complain nor change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


@click.group(
    cls=Commands,
    params=[*COMMON],
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example(
        "fastseq sample demo",
        "fastseq index demo/docs.parquet",
        'fastseq search "parse arguments"',
        "fastseq fit-lstm demo/labelled.parquet --valid demo/labelled_test.parquet",
    ),
)
@click.version_option(package_name="fastseq")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Search, text features, word vectors and recurrent models over Parquet."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line; the entry point of the `fastseq` script."""
    gc.set_threshold(50_000)  # at 700, looking for cycles in imported modules takes 0.03 s
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            # text that the terminal's encoding lacks is escaped
            stream.reconfigure(errors="backslashreplace")
    code: Any = 0
    try:
        cli(prog_name="fastseq")
    except SystemExit as leaving:
        code = leaving.code
    except KeyboardInterrupt:  # before or after the command itself
        print("Interrupted", file=sys.stderr)
        code = 130
    # Every file is closed by now. An orderly shutdown of Numba and LLVM would take 0.2 s more.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else code is not None)
