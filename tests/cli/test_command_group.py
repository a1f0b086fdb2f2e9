"""The group of commands: help, common options, one-line errors, completion."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import click
import fastseq_cli.main as main_module
import pytest
from fastseq_cli.main import COMMANDS, cli
from fastseq_cli.options import Common, command

from fastseq.errors import DataError
from tests.cli.conftest import SCRIPT, Run, Write

FULL = "cannot write to standard output: No space left on device"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Add a command `fail` to the group that raises the given exception."""

    def add(error: BaseException) -> None:
        @command("fail")
        def fail(common: Common) -> None:
            raise error

        monkeypatch.setattr(cli, "get_command", lambda ctx, name: fail)

    return add


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"fastseq {name}" in ran.out.partition("Example")[2]
    assert "--threads" in ran.out
    assert "--quiet" in ran.out
    for line in ran.out.splitlines():
        assert len(line) <= 100


def test_examples_are_not_wrapped(run: Run) -> None:
    lines = run("search", "--help").out.splitlines()
    examples = [line for line in lines if line.lstrip().startswith("$ ")]
    assert len(examples) == 10


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_the_group_lists_every_command(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.code == 0
    for name, (_, said) in COMMANDS.items():
        assert name in ran.out.split()
        assert said in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_have_their_listed_names_and_a_help_text(name: str) -> None:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    assert found.name == name
    assert found.help is not None
    assert found.help.strip()


def test_version(run: Run) -> None:
    ran = run("--version")
    assert ran.code == 0
    assert ran.out.startswith("fastseq, version 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serch", "x"), "serch"),
        (("search", "--no-such"), "--no-such"),
        (("index",), "CORPUS"),
        (("search", "x", "-k", "many"), "many"),
        (("search", "x", "--model", "bm26"), "bm26"),
        (("search",), "QUERY"),
        (("search", "x", "--queries", "q.parquet"), "QUERY"),
        (("search", "x", "-o", "run.trec"), "--queries"),
        (("search", "--queries", "q.tsv", "-o", "r.trec", "--format", "json"), "suffix"),
        (("index", "x.parquet", "--language", "english", "--stemmer", "english"), "--language"),
        (("index", "x.parquet", "--language", "english", "--stopwords", "none"), "--language"),
        (("index", "x.parquet", "--store", "none", "--store", "title"), "--store none"),
        (("completion", "tcsh"), "tcsh"),
    ],
)
def test_usage_errors_are_one_line_with_status_2(
    run: Run, words: tuple[str, ...], said: str
) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert said in ran.error
    assert "--help" in ran.error


@pytest.mark.parametrize(
    "words",
    [
        ("--threads", "3", "--quiet", "look"),
        ("look", "--threads", "3", "--quiet"),
        ("--quiet", "look", "--threads", "3"),
        ("--threads", "2", "look", "--threads", "3", "--quiet"),
    ],
)
def test_common_options_before_or_after_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    seen = []

    @command("look")
    def look(common: Common) -> None:
        seen.append(common)

    monkeypatch.setattr(cli, "get_command", lambda ctx, name: look)
    assert run(*words).code == 0
    assert seen == [Common(threads=3, quiet=True)]


@pytest.mark.parametrize("words", [("--threads", "0", "sample", "x"), ("info", "--threads", "-1")])
def test_threads_must_be_at_least_one(run: Run, words: tuple[str, ...]) -> None:
    assert "threads must be a whole number of at least 1" in run(*words).error


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("embed", "--max-length"),
        ("fit-bert", "--batch-size or --max-length"),
        ("pretrain-bert", "--batch-size or --max-length"),
        ("fit-lstm", "--batch-size, --hidden or --embedding"),
        ("index", "--memory"),
    ],
)
def test_out_of_memory_names_an_option_of_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, advice: str
) -> None:
    own = {name for option in cli.get_command(click.Context(cli), command).params
           for name in option.opts}  # fmt: skip
    assert all(word.strip(",") in own for word in advice.split() if word != "or")

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cli, "invoke", fail)
    assert f"out of memory; try a smaller {advice}, or" in run(command).error
    assert f"out of memory; try a smaller {advice}, or" in run("--threads", "1", command).error
    assert "out of memory; try fewer --threads" in run("predict").error


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (DataError("docs.parquet: no column 'x'\nthere are: a, b"), "x' there are: a, b", 1),
        (MemoryError(), "out of memory", 1),
        (OSError(errno.ENOSPC, "No space left on device", "out"), "out: No space left", 1),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "out: Permission denied", 1),
        (OSError("something\nsaid by a library"), "something said by a library", 1),
        (click.ClickException("no"), "no", 1),
    ],
)
def test_errors_are_one_line(run: Run, failing, error: Exception, said: str, code: int) -> None:
    failing(error)
    ran = run("fail")
    assert said in ran.error
    assert ran.code == code


def test_interrupt_exits_with_130(run: Run, failing) -> None:
    failing(KeyboardInterrupt())
    ran = run("fail")
    assert ran.code == 130
    assert ran.err.strip() == "Interrupted"


def test_other_exceptions_keep_their_traceback(run: Run, failing) -> None:
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run("fail")


def test_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    ran = subprocess.run(
        f'"{SCRIPT}" completion bash | true; exit ${{PIPESTATUS[0]}}',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("to", "code", "said"),
    [
        (">&-", 0, ""),
        *([("> /dev/full", 1, f"Error: {FULL}\n")] * Path("/dev/full").exists()),
    ],
)
def test_full_stdout_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, code: int, said: str
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    ran = subprocess.run(
        f'"{SCRIPT}" completion zsh {to}', shell=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert (ran.returncode, ran.stderr) == (code, said)


@pytest.mark.parametrize("name", ["click", "fastseq.errors", "fastseq_cli.options"])
def test_interrupt_of_the_imports(tmp_path: Path, name: str) -> None:
    source = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {name!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from fastseq_cli.main import main\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "Interrupted\n")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    source = (
        "import sys; from fastseq_cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'numpy', 'pyarrow', 'rich', 'scipy', 'ir_measures', 'Stemmer'}\n"
        "print(*sorted(heavy & set(sys.modules)), end='', file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    ran = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0
    assert "Usage: fastseq" in ran.stdout
    assert main_module.__package__ == "fastseq_cli"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert "_FASTSEQ_COMPLETE" in ran.out


def test_completion_completes_commands(tmp_path: Path) -> None:
    ran = subprocess.run(
        [SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "_FASTSEQ_COMPLETE": "bash_complete",
            "COMP_WORDS": "fastseq search --mo",
            "COMP_CWORD": "2",
        },
    )
    assert "plain,--model" in ran.stdout


def test_parameters_in_messages_become_options(run: Run, write: Write) -> None:
    corpus = write("docs.parquet", a=["x"], b=["y"])
    assert "name it (--text-column);" in run("index", corpus).error
    assert run("index", corpus, "--text-column", "a").code == 0
    assert run("index", corpus, "--text-column", "a").error.endswith(": --overwrite replaces it")
    for words in (("index", "--tokenizer", "word"), ("features", "-o", "x.npz")):
        wrong = run(*words, corpus, "--text-column", "a", "--language", "thai", "--overwrite").error
        assert wrong.endswith("'thai' has a normalisation only, which needs --tokenizer unicode")
    wrong = run("fit-lstm", corpus, "--task", "language", "--batch-size", "0").error
    assert wrong.startswith("Error: --batch-size must")
