"""Every code block of the documentation runs, page by page, from top to bottom, and the values that
comments of Python blocks show are the values of their expressions."""

from __future__ import annotations

import ast
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from tests.bert_checkpoints import CONFIG, masked_weights_of, write_checkpoint
from tests.cli.conftest import Ran, run_cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
if os.environ.get("FASTSEQ_TESTS") == "all":
    PAGES.append(ROOT / "README.md")  # trains for a minute
SHELL = re.compile(r"[|<>&;`$*?~]")  # what only a shell understands
NOT_RUN = ("pip ", "make ", "git ")  # install or change the environment
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "COLUMNS": "100",
}


def commands_of(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command after a `$ ` prompt, with the lines of output shown below it."""
    command, shown = "", []
    for line in [*block.splitlines(), "$ "]:
        if command.endswith("\\"):
            command = command[:-1] + line.strip()
        elif line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        else:
            shown.append(line)


def first_cells(lines: Iterable[str]) -> set[str]:
    """The first cells of the lines that have several: names of a summary, ranks of a table. Values
    are not compared: they depend on the machine and on Python's documentation."""
    cells = (re.split(r"\t|  +", line.strip()) for line in lines)
    return {first for first, *others in cells if others}


def run_console(example: Example) -> None:
    for command, shown in commands_of(example.parsed):
        if command.startswith(NOT_RUN):
            continue
        ran = run_command(command)
        if any(line.startswith("Error: ") for line in shown):
            assert ran.code == 1, f"{command}: {ran.err}"
        else:
            assert ran.code == 0, f"{command}: {ran.err}"
            assert bool((ran.out + ran.err).strip()) >= bool(shown), command
            missing = first_cells(shown) - first_cells((ran.out + ran.err).splitlines())
            assert not missing, f"{command}: does not print {missing}"


def run_command(command: str) -> Ran:
    """Run a line of a shell; `fastseq …` alone in this process, which takes a second less."""
    if command.startswith("fastseq ") and not SHELL.search(command):
        _, *words = shlex.split(command)
        return run_cli(*words)
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=300, env=ENVIRONMENT
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


class CommentChecks(ast.NodeTransformer):
    """Makes each expression with a literal as a comment, `len("ab")  # 2`, an assertion that it has
    this value."""

    def __init__(self, source: str) -> None:
        self.values: dict[int, Any] = {}  # by line
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                try:
                    self.values[token.start[0]] = ast.literal_eval(token.string[1:].strip())
                except (SyntaxError, ValueError):  # prose
                    continue

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if node.end_lineno not in self.values:
            return node
        shown = self.values[node.end_lineno]
        check = f"_check_shown(None, {shown!r}, {ast.unparse(node)!r})"
        made = ast.parse(check).body[0]
        assert isinstance(made, ast.Expr)
        assert isinstance(made.value, ast.Call)
        made.value.args[0] = node.value
        return ast.copy_location(made, node)


def check_shown(found: Any, shown: Any, source: str) -> None:
    assert found == shown, f"{source} is {found!r}, but the comment shows {shown!r}"


def run_python(example: Example) -> None:
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    tree = ast.fix_missing_locations(CommentChecks(source).visit(ast.parse(source)))
    example.namespace["_check_shown"] = check_shown
    exec(compile(tree, example.path, "exec", dont_inherit=True), example.namespace)


PARSERS = [CodeBlockParser("python", run_python), CodeBlockParser("console", run_console)]


@pytest.mark.skipif(os.name == "nt", reason="the blocks are written for a POSIX shell")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_blocks_of_a_page_run(
    page: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(samples, tmp_path / "demo")
    shutil.copytree(ROOT / "data", tmp_path / "data")
    config = {**CONFIG, "max_position_embeddings": 64}
    write_checkpoint(tmp_path / "all-MiniLM-L6-v2", config)
    write_checkpoint(tmp_path / "splade-tiny", config, masked_weights_of(config))
    monkeypatch.chdir(tmp_path)
    for name in ("FASTSEQ_INDEX", "FASTSEQ_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", ENVIRONMENT["COLUMNS"])
    monkeypatch.setenv("PATH", ENVIRONMENT["PATH"])  # python blocks may run commands too
    document = Document.parse(str(page), *PARSERS)
    for example in document.examples():
        example.evaluate()


def test_block_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shown = "if True:\n    len('ab')  # 2\nsum(\n    [1, 2]\n)  # {}\n'a'  # prose"
    blocks = ["assert 1 == 2", shown.format(4), shown.format(3)]
    page.write_text(
        "```console\n$ fastseq info nowhere\n```\n\n```console\n$ echo size  5\nsize  5\n```\n\n"
        + "".join(f"```python\n{block}\n```\n\n" for block in blocks)
    )
    console, other, python, wrong, right = Document.parse(str(page), *PARSERS).examples()
    with pytest.raises(AssertionError, match=r"does not print {'size'}"):
        other.evaluate()
    with pytest.raises(AssertionError, match="fastseq info nowhere"):
        console.evaluate()
    with pytest.raises(AssertionError):
        python.evaluate()
    with pytest.raises(AssertionError, match=r"sum.* is 3, but the comment shows 4"):
        wrong.evaluate()
    right.evaluate()
