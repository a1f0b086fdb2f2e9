"""The rule for outputs: never an input, never an existing file that fastseq did not write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from fastseq.errors import SettingsError
from fastseq.store.matrices import Outputs, SavedTerms, write_features
from fastseq.store.outputs import KINDS, check_folder, check_output, described, kind_of
from fastseq.store.parquet import parquet_writer, write_columns
from fastseq.store.runs import RunWriter
from fastseq.store.vector_files import write_word_vectors
from fastseq.store.writer import FolderWriter
from fastseq.types import Texts

TABLE = pa.table({"id": ["a"], "text": ["b"]})
VECTORS = np.ones((1, 2), np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def user_file(path: str) -> Path:
    """A Parquet file that fastseq did not write."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(TABLE, path)
    return Path(path)


def folder(path: str, kind: str = "index") -> Path:
    """A folder as fastseq writes it, with a Parquet file among its data."""
    with FolderWriter(path, kind, 1, overwrite=True, links=("words.parquet",)) as writer:
        for name in ("documents.parquet", "words.parquet"):
            pq.write_table(TABLE, writer.path(name))
            writer.adopt(name)
        writer.commit({}, {})
    return Path(path)


def features(name: str) -> None:
    terms = SavedTerms(Texts.from_strings(["x"]), np.ones(1, np.int64), {}, {})
    matrix = scipy.sparse.csr_matrix(np.ones((1, 1)))
    write_features(Outputs.of(name), matrix, terms, {}, None)


def picture(path: str) -> None:
    pytest.importorskip("matplotlib")
    from fastseq.plotting import drawn

    drawn(path, (2.0, 2.0), lambda figure: figure.subplots())


def run(path: str) -> None:
    with RunWriter(path) as writer:
        writer.append(["q"], [0, 2], ["a", "b"], np.ones(2, np.float32))


WRITERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "r.parquet": ("run", run),
    "r.trec": ("run", run),
    "m.npz": ("matrix", features),
    "m.parquet": ("matrix", features),
    "v.parquet": ("word vectors", lambda path: write_word_vectors(path, ["a"], VECTORS)),
    "s.parquet": ("sample", lambda path: write_columns(path, {"a": [1]}, "sample")),
    "p.png": ("picture", picture),
    "p.svg": ("picture", picture),
    "p.pdf": ("picture", picture),
}


# ---- which files fastseq wrote


@pytest.mark.parametrize("name", WRITERS)
def test_output_is_replaced_only_by_its_own_kind(name: str) -> None:
    kind, write = WRITERS[name]
    write(name)
    assert kind_of(name) == kind
    for other in {each for each, _ in WRITERS.values()} | {"terms", "predictions"}:
        if other == kind:
            check_output(name, other)
        else:
            with pytest.raises(SettingsError, match=r"already exists and is .*overwrite=True"):
                check_output(name, other)
            check_output(name, other, overwrite=True)


def test_terms_and_matrix_are_distinguished() -> None:
    features("m.npz")
    assert kind_of("m.terms.parquet") == "terms"
    scipy.sparse.load_npz("m.npz")  # the mark is no part of the matrix


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("r.tsv", run),
        ("v.vec", lambda path: write_word_vectors(path, ["a"], VECTORS)),
        ("v.bin", lambda path: write_word_vectors(path, ["a"], VECTORS)),
        ("x.parquet", user_file),
        ("x.npz", lambda path: scipy.sparse.save_npz(path, scipy.sparse.eye(2).tocsr())),
        ("x.npy", lambda path: np.save(path, np.ones(2))),
        ("x.trec", lambda path: Path(path).write_text("q Q0 d 1 2.5 bm25\n")),
        ("x.svg", lambda path: Path(path).write_text("<?xml?><svg>fastseq</svg>")),
        ("x.txt", lambda path: Path(path).write_text("fastseq")),
    ],
)
def test_files_without_a_mark_are_not_replaced(name: str, write: Callable[[str], Any]) -> None:
    write(name)
    assert kind_of(name) is None
    for kind in KINDS:
        with pytest.raises(SettingsError, match="already exists and is not known to be"):
            check_output(name, kind)
        check_output(name, kind, overwrite=True)


def test_runs_with_foreign_lines_are_not_replaced() -> None:
    run("r.trec")
    with open("r.trec", "a") as file:
        file.write("q Q0 mine 3 1.0 hand\n")
    assert kind_of("r.trec") is None


def test_table_read_and_written_again_has_no_mark() -> None:
    write_columns("s.parquet", {"a": [1]}, "sample")
    pq.write_table(pq.read_table("s.parquet"), "s.parquet")
    assert kind_of("s.parquet") is None


def test_first_terms_file_is_recognised() -> None:
    mark = {b"fastseq": json.dumps({"format_version": 1, "settings": {}}).encode()}
    pq.write_table(TABLE.replace_schema_metadata(mark), "old.terms.parquet")
    assert kind_of("old.terms.parquet") == "terms"


def test_empty_file_is_replaced() -> None:
    Path("r.tsv").touch()
    check_output("r.tsv", "run")


def test_damaged_files_have_no_kind(here: Path) -> None:
    rng = np.random.default_rng(3)
    for name, (_, write) in WRITERS.items():
        write(name)
        whole = Path(name).read_bytes()
        for _ in range(30):
            Path("cut").write_bytes(whole[: rng.integers(len(whole))])
            assert kind_of("cut") in (None, "picture", "run")  # known by what is left of them
            assert described("cut")
            bad = bytearray(whole)
            bad[int(rng.integers(len(whole)))] ^= 0xFF
            Path("bad").write_bytes(bad)
            kind_of("bad")


def test_pipes_do_not_block() -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo("pipe")
    check_output("pipe", "run")
    assert described("pipe") == "a device or a pipe"


# ---- what is read


def links(target: str) -> dict[str, str]:
    """Further names of a file in the working folder."""
    os.makedirs("other", exist_ok=True)
    os.symlink(os.path.abspath(target), "other/link.parquet")
    os.link(target, "other/hard.parquet")
    os.symlink(".", "again")
    return {
        "itself": target,
        "dotted": f"./other/../{target}",
        "absolute": os.path.abspath(target),
        "a symbolic link": "other/link.parquet",
        "a hard link": "other/hard.parquet",
        "through a linked folder": f"again/{target}",
    }


@pytest.mark.parametrize("overwrite", [False, True])
def test_input_is_refused_under_every_name(overwrite: bool) -> None:
    user_file("data.parquet")
    names = links("data.parquet")
    for name in names.values():
        for given in (*names.values(), ["x", ("data.parquet",)], "*.parquet", "d?ta.parquet"):
            with pytest.raises(SettingsError, match=r"is also an input|would be part of"):
                check_output(name, "run", given, overwrite=overwrite)


@pytest.mark.parametrize(
    ("given", "output", "refused"),
    [
        ("data", "data/new.parquet", True),
        ("data", "data/new.PARQUET", True),
        ("data", "data/lang=en/new.parquet", True),
        ("data", "data/../data/new.parquet", True),
        (".", "new.parquet", True),
        ("data", "new.parquet", False),
        ("data", "data/new.trec", False),
        ("data", "data/_new.parquet", False),
        ("data", "data/_parts/new.parquet", False),
        ("data", "data/.new.parquet", False),
        ("data", "data/index/new.parquet", False),
        ("data/*.parquet", "data/new.parquet", True),
        ("data/*.parquet", "data/.new.parquet", False),
        ("data/*.parquet", "data/lang=en/new.parquet", False),
        ("data/**/*.parquet", "data/lang=en/new.parquet", True),
        ("data/**/*.parquet", "data/new.parquet", True),
        ("data/lang=*", "data/lang=en/new.parquet", True),
        ("data/lang=*", "data/new.parquet", False),
        ("d[a-c]ta/n*", "data/new.parquet", True),
        ("data/x*", "data/new.parquet", False),
        ("nowhere", "data/new.parquet", False),
    ],
)
def test_new_file_that_the_next_run_would_read(given: str, output: str, refused: bool) -> None:
    for name in ("data/a.parquet", "data/lang=en/a.parquet"):
        user_file(name)
    Path("data/_parts").mkdir()
    folder("data/index")
    if refused:
        with pytest.raises(SettingsError, match="would be part of the input"):
            check_output(output, "run", [given], overwrite=True)
    else:
        check_output(output, "run", [given])


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "data-000001/documents.parquet", "words.parquet", "data-000001/new.parquet"],
)
def test_parts_of_a_folder_that_is_read_are_rejected(name: str) -> None:
    folder("index")
    with pytest.raises(SettingsError, match=r"would be part of|is also an input"):
        check_output(f"index/{name}", "run", "index", overwrite=True)
    check_output("index/plot.png", "picture", "index")


def test_objects_other_than_paths_are_ignored_as_inputs() -> None:
    check_output("new.parquet", "run", [None, TABLE, {"a": 1}, 3, ("nowhere.parquet", [])])


def test_unwritable_paths() -> None:
    Path("folder").mkdir()
    for path, said in (
        ("folder", "is a folder"),
        ("no/run.trec", "no such folder: no"),
        ("run.txt", r"must end in \.parquet, \.trec or \.tsv$"),
    ):
        suffixes = () if path == "folder" else (".parquet", ".trec", ".tsv")
        with pytest.raises(SettingsError, match=said):
            check_output(path, "run", suffixes=suffixes)
    check_output("run.TREC", "run", suffixes=(".trec",))


def test_two_outputs_are_two_files() -> None:
    os.symlink("a.png", "b.png")
    for other in ("a.png", "./a.png", "b.png"):
        with pytest.raises(SettingsError, match="named as an output twice"):
            check_output("a.png", "picture", others=[None, other])
    check_output("a.png", "picture", others=["c.png"])


# ---- folders


def test_folder_that_holds_an_input_is_rejected() -> None:
    index = folder("index")
    for given in (index / "data-000001" / "documents.parquet", "index/*/doc*", [index], "./index"):
        with pytest.raises(SettingsError, match=r"is also an input|holds the input"):
            check_folder("index", given)
    user_file("data/a.parquet")
    folder("data/index")
    check_folder("data/index", "data")  # which leaves folders of fastseq out
    check_folder("new", "data", "index")
    check_folder(None, "data")


def test_texts_are_not_mistaken_for_paths() -> None:
    folder("index")
    texts = ["index", "what is a *", "x" * 5000, "\0"]
    check_folder("index", texts, (texts, [1, 2]))
    with pytest.raises(SettingsError, match="holds the input"):
        check_folder("index", ["index/words.parquet"])


def test_users_file_in_a_folder_without_a_commit_stays(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "lock").touch()  # of a training that failed
    words = user_file("out/words.parquet")
    with (
        pytest.raises(SettingsError, match=r"files that are not fastseq's \(words\.parquet\)"),
        FolderWriter("out", "vectors", 1, links=("words.parquet",)),
    ):
        pytest.fail("the folder was taken")
    assert words.exists()


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in WRITERS.values()}))
def test_kinds_have_names_for_messages(kind: str) -> None:
    assert kind in KINDS


def test_descriptions_of_paths() -> None:
    folder("index")
    user_file("a.parquet")
    Path("empty").mkdir()
    Path("blank").touch()
    Path("a.vec").write_text("1 2\na 0.5 0.5\n")
    shutil.copytree("index", "later")
    text = (Path("later") / "manifest.json").read_text().replace('"index"', '"graph"')
    (Path("later") / "manifest.json").write_text(text)
    assert {path: described(path) for path in ("index", "later", "a.parquet", "blank")} == {
        "index": "an index",
        "later": "of the kind 'graph'",
        "a.parquet": "a Parquet file",
        "blank": "an empty file",
    }
    assert described("empty") == "an empty folder"
    assert described(".") == "a folder without manifest.json"
    assert described("a.vec") == "a file of another program"
    assert described("missing") == "no such file or folder"


def test_parquet_of_a_name_that_is_not_utf8(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9.parquet")
    try:
        Path(name).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with parquet_writer(name, TABLE.schema, "sample") as writer:
        writer.write_table(TABLE)
    assert kind_of(name) == "sample"
    with pytest.raises(SettingsError, match=r"^caf\\xe9\.parquet: is also an input"):
        check_output(name, "sample", [os.fsencode(here / name).decode("utf-8", "surrogateescape")])
