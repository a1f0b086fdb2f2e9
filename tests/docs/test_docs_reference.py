"""The reference pages list every public name and every command."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest
from fastseq_cli.main import cli

import fastseq

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_public_name_is_in_the_python_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    listed = set(re.findall(r"auto(?:class|function):: fastseq\.(\w+)$", page, re.M))
    errors = {
        name
        for name in fastseq.__all__
        if inspect.isclass(getattr(fastseq, name))
        and issubclass(getattr(fastseq, name), fastseq.FastseqError)
    }
    assert "automodule:: fastseq.errors" in page
    assert listed == set(fastseq.__all__) - errors


def test_every_query_is_in_the_python_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    found = re.search(r"automodule:: fastseq\.query\n +:members: (.+)", page)
    assert found is not None
    queries = {
        name
        for name, value in vars(fastseq.query).items()
        if inspect.isclass(value) and issubclass(value, fastseq.query.Query) and name[0] != "_"
    }
    assert set(found[1].split(", ")) == queries


def test_the_command_reference_is_generated_from_the_commands() -> None:
    page = (DOCS / "reference" / "commands.md").read_text("utf-8")
    assert ".. click:: fastseq_cli.main:cli" in page
    assert ":nested: full" in page  # every command and option of the group


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    assert command.epilog, "an example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize("name", ["index", "add", "delete", "compact"])
def test_every_option_of_an_index_is_in_a_guide(name: str) -> None:
    """Of a pair such as --lowercase and --keep-case the one that is not the default."""
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    named = set(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", text))
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            opts = parameter.secondary_opts or parameter.opts
            assert named.intersection(opts), f"{name} {opts}"
            if parameter.envvar is not None:
                assert f"`{parameter.envvar}`" in text


@pytest.mark.parametrize(
    "page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "fastseq/kernels/simd/README.md"]
)
def test_files_and_folders_that_pages_name_exist(page: str) -> None:
    root = DOCS.parent
    paths = [
        path.relative_to(root).as_posix() + "/" * path.is_dir()
        for folder in ("fastseq", "cli", "tests", "bench", "tools", "docs", "examples")
        for path in (root / folder).rglob("*")
    ]
    text = (root / page).read_text("utf-8")
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.npz|\.md|/))`", text)) - {"data-00000n/"}
    assert len(named) > 1
    missing = {
        name
        for name in named
        if not (root / page).parent.joinpath(name).exists()
        and not any(f"/{path}".endswith(f"/{name}") for path in paths)
    }
    assert not missing
