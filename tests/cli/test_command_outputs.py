"""Existing files and inputs are protected by every command that writes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastseq_cli.main import COMMANDS, cli

from tests.cli.conftest import Run, Write

READ_ONLY = {
    "analogy", "answer", "completion", "evaluate", "fill-mask", "generate", "info", "phrases",
    "test", "test-vectors",
}  # fmt: skip
CHANGING = {"add", "compact", "delete"}  # an index that they are given
VEC = "3 2\na 1.0 0.0\nb 0.0 1.0\nc 0.5 0.5\n"


def test_every_writing_command_documents_overwrite() -> None:
    helps = set()
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        flags = {param.name: param for param in command.params}
        assert ("overwrite" in flags) == (name not in READ_ONLY | CHANGING), name
        if "overwrite" in flags:
            helps.add(flags["overwrite"].to_info_dict()["help"])
    assert len(helps) == 1
    assert "Replace existing outputs" in helps.pop()


@pytest.fixture
def here(run: Run, write: Write, corpora: Path, tmp_path: Path) -> Path:
    """A working folder with inputs for every command."""
    write("docs.parquet", id=["a", "b"], text=["cat dog", "dog"], label=["x", "y"])
    (tmp_path / "q.tsv").write_text("1\tcat\n")
    (tmp_path / "v.vec").write_text(VEC)
    assert run("index", "docs.parquet", "-o", "index").code == 0
    assert run("features", "docs.parquet", "-o", "old.npz").code == 0
    return tmp_path


FIT = ("fit-lstm", "wave.parquet", "--task", "forecast", "--window", "8", "--hidden", "16",
       "--epochs", "1", "--threads", "1")  # fmt: skip
CLASSIFIER = ("fit-fasttext-classifier", "docs.parquet", "-o", "m", "--dimensions", "16",
              "--buckets", "16", "--threads", "1")  # fmt: skip
SEARCH = ("search", "-i", "index", "--queries", "q.tsv")

# command line -> its output; whether the command replaces what it wrote without --overwrite
OUTPUTS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "search .tsv": ((*SEARCH, "-o", "r.tsv"), "r.tsv", False),
    "search .trec": ((*SEARCH, "-o", "r.trec"), "r.trec", True),
    "search .parquet": ((*SEARCH, "-o", "r.parquet"), "r.parquet", True),
    "features .npz": (("features", "docs.parquet", "-o", "f"), "f.npz", True),
    "features terms": (("features", "docs.parquet", "-o", "f"), "f.terms.parquet", True),
    "features .parquet": (("features", "docs.parquet", "-o", "f.parquet"), "f.parquet", True),
    "predict": (("predict", "reviews", "docs.parquet", "-o", "p.parquet"), "p.parquet", True),
    "sample": (("sample", "demo"), "demo/qrels.parquet", True),
    "export .vec": (("export", "v.vec", "w.vec"), "w.vec", False),
    "export .bin": (("export", "v.vec", "w.bin"), "w.bin", False),
    "export .parquet": (("export", "v.vec", "w.parquet"), "w.parquet", True),
    "neighbors": (("neighbors", "v.vec", "a", "--plot", "w.png"), "w.png", True),
    "plot": ((*FIT, "-o", "one", "--plot", "c.svg"), "c.svg", True),
    "gradient flow": ((*FIT, "-o", "two", "--gradient-flow", "g.parquet"), "g.parquet", True),
    "classifier": ((*CLASSIFIER, "--export", "m.bin"), "m.bin", False),
}


def forget_models(folder: Path) -> None:
    for name in ("m", "one", "two"):
        shutil.rmtree(folder / name, ignore_errors=True)


@pytest.mark.parametrize("which", OUTPUTS)
@pytest.mark.usefixtures("small_library")
def test_user_file_needs_overwrite(
    run: Run, here: Path, corpora: Path, models: Path, which: str
) -> None:
    if which in ("neighbors", "plot"):
        pytest.importorskip("matplotlib")
    shutil.copy(corpora / "wave.parquet", here)
    shutil.copytree(models / "reviews", here / "reviews")
    words, output, replaced = OUTPUTS[which]
    mine = b"what a user wrote\n"
    Path(output).parent.mkdir(exist_ok=True)
    Path(output).write_bytes(mine)
    before = {path.name for path in here.iterdir()}
    error = run(*words).error
    assert error.startswith(f"Error: {output}: already exists and is not known to be ")
    assert error.endswith(": --overwrite replaces it")
    assert Path(output).read_bytes() == mine
    assert {path.name for path in here.iterdir()} == before  # refused before the work
    assert run(*words, "--overwrite").code == 0
    assert Path(output).read_bytes() != mine
    forget_models(here)
    again = run(*words)
    assert (again.code == 0) == replaced, again.err


# command line -> what is read and would be written
INPUTS: dict[str, tuple[tuple[str, ...], str]] = {
    "queries": (("search", "-i", "index", "--queries", "q.tsv", "-o", "q.tsv"), "q.tsv"),
    "queries by a link": (("search", "-i", "index", "--queries", "q.tsv", "-o", "l.tsv"), "l.tsv"),
    "part of an index": (
        (*SEARCH, "-o", "index/data-000001/run.trec"),
        "index/data-000001/run.trec",
    ),
    "an earlier matrix": (
        ("features", "docs.parquet", "--like", "old.npz", "-o", "old.npz"),
        "old.npz",
    ),
    "earlier terms": (
        ("features", "docs.parquet", "--like", "old", "-o", "old.parquet"),
        "old.terms.parquet",
    ),
    "a corpus": (("features", "docs.parquet", "-o", "docs.parquet"), "docs.parquet"),
    "terms in the corpus": (("features", ".", "-o", "new"), "new.terms.parquet"),
    "data to predict": (
        ("predict", "index", "d*.parquet", "-o", "docs.parquet"),
        "docs.parquet",
    ),
    "new data to predict": (("predict", "index", ".", "-o", "new.parquet"), "new.parquet"),
    "vectors to export": (("export", "v.vec", "v.vec"), "v.vec"),
    "validation": (
        (*FIT, "--valid", "docs.parquet", "--gradient-flow", "docs.parquet"),
        "docs.parquet",
    ),
    "a corpus inside of the index": (("index", "index/own.parquet", "-o", "index"), "index"),
}


@pytest.mark.parametrize("which", INPUTS)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_input_is_never_overwritten(
    run: Run, here: Path, corpora: Path, which: str, overwrite: tuple[str, ...]
) -> None:
    shutil.copy(corpora / "wave.parquet", here)
    Path("l.tsv").symlink_to("q.tsv")
    words, output = INPUTS[which]
    if which == "a corpus inside of the index":
        shutil.copy("docs.parquet", "index/own.parquet")
    files = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    error = run(*words, *overwrite).error
    assert error.startswith(f"Error: {output}: ")
    assert re.search("is also an input|would be part of the input|holds the input", error)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == files


@pytest.mark.usefixtures("small_library")
def test_sample_replaces_its_own_files_only(run: Run, tmp_path: Path, write: Write) -> None:
    mine = write("docs.parquet", text=["mine"])
    for words in ((), ("--quiet",)):
        assert "docs.parquet: already exists" in run("sample", tmp_path, *words).error
        assert pq.read_table(mine).to_pydict() == {"text": ["mine"]}
        assert [path.name for path in tmp_path.iterdir()] == ["docs.parquet"]
    mine.unlink()
    assert run("sample", tmp_path).code == 0
    assert run("sample", tmp_path).code == 0
    table = pq.read_table(mine)
    pq.write_table(table.append_column("mine", pa.array(range(len(table)))), mine)
    assert "docs.parquet: already exists" in run("sample", tmp_path).error
    assert run("sample", tmp_path, "--overwrite").code == 0


def test_two_outputs_must_be_different_files(run: Run, here: Path, corpora: Path) -> None:
    pytest.importorskip("matplotlib")
    shutil.copy(corpora / "wave.parquet", here)
    words = (*FIT, "-o", "m", "--plot", "x.png", "--gradient-flow", "./x.png", "--overwrite")
    assert "x.png: is named as an output twice" in run(*words).error
    assert not Path("m").exists()
    assert "m.bin: is named as an output twice" in run(
        *CLASSIFIER[:3], "m.bin", "--export", "m.bin"
    ).error  # fmt: skip
