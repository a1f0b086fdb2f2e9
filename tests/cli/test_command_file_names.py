"""Files whose names are not valid UTF-8 are read and written by every command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError
from fastseq.models import load
from fastseq.store.folder import verify
from tests.cli.conftest import Run

ODD = os.fsdecode(b"caf\xe9")  # of Latin-1: as UTF-8 it ends too early
FIT = ("--hidden", "16", "--threads", "1", "--epochs", "1")
VECTORS = ("--dimensions", "16", "--epochs", "1", "--threads", "1", "--min-count", "1")


def odd(suffix: str) -> Path:
    return Path(ODD) / f"{ODD}{suffix}"


@pytest.fixture(autouse=True)
def here(run: Run, tmp_path: Path, corpora: Path) -> Path:
    """A working folder with a folder of an odd name, and in it files of odd names."""
    try:
        (tmp_path / ODD).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for name in ("reviews", "spoken", "book", "wave"):
        shutil.copy(corpora / f"{name}.parquet", odd(f".{name}.parquet"))
    docs = pa.table({"id": ["a", "b"], "text": ["cat dog", "dog"]})
    with open(odd(".docs.parquet"), "wb") as file:
        pq.write_table(docs, file)
    odd(".tsv").write_text("1\tcat\n2\tdog\n")
    odd(".qrels").write_text("1 0 a 1\n2 0 b 1\n")
    odd(".vec").write_text("4 2\ncat 1.0 0.0\ndog 0.0 1.0\nbird 0.5 0.5\ngood 0 1\n")
    odd(".pairs.tsv").write_text("cat\tdog\t1\ncat\tbird\t2\ndog\tbird\t3\n")
    return tmp_path


def rows(path: Path) -> list[dict[str, object]]:
    with open(path, "rb") as file:
        found: list[dict[str, object]] = pq.read_table(file).to_pylist()
    return found


def good(ran: object) -> str:
    assert ran.code == 0, ran.err  # type: ignore[attr-defined]
    out: str = ran.out  # type: ignore[attr-defined]
    assert "\udce9" not in out + ran.err  # type: ignore[attr-defined]
    return out


def test_index_search_evaluate_and_info(run: Run) -> None:
    out = good(run("index", odd(".docs.parquet"), "-o", odd("")))
    assert r"caf\xe9/caf\xe9" in out
    assert "cat dog" in good(run("search", "cat", "-i", odd("")))
    for suffix in (".parquet", ".trec", ".tsv"):
        run_file = odd(f".run{suffix}")
        good(run("search", "--queries", odd(".tsv"), "-i", odd(""), "-o", run_file, "--overwrite"))
        measured = json.loads(
            good(run("evaluate", run_file, odd(".qrels"), "-m", "P@1", "--format", "json"))
        )
        assert measured == {"P@1": 1.0}
    again = ("search", "--queries", odd(".tsv"), "-i", odd(""), "-o", odd(".run.tsv"))
    assert r"caf\xe9/caf\xe9.run.tsv: already exists" in run(*again).error
    words = ("search", "cat", "-i", odd(""), "--expand", odd(".vec"))
    assert "cat dog" in good(run(*words))
    assert "documents" in good(run("info", odd(""), "--verify"))
    assert r"caf\xe9/caf\xe9 already exists" in run(
        "index", odd(".docs.parquet"), "-o", odd("")
    ).error  # fmt: skip


def test_index_of_a_folder_and_of_a_glob(run: Run, here: Path) -> None:
    Path(ODD, "parts").mkdir()
    shutil.copy(odd(".docs.parquet"), Path(ODD, "parts"))
    for number, corpus in enumerate((Path(ODD, "parts"), f"{ODD}/*.docs.parquet", "*/parts/c*")):
        good(run("index", corpus, "-o", f"index{number}"))
        assert "cat dog" in good(run("search", "cat", "-i", f"index{number}"))


@pytest.mark.parametrize("suffix", [".npz", ".long.parquet"])
def test_features_and_like(run: Run, suffix: str) -> None:
    out = good(run("features", odd(".docs.parquet"), "-o", odd(suffix)))
    assert r"caf\xe9.terms.parquet" in out or r"caf\xe9.long.terms.parquet" in out
    good(run("features", odd(".docs.parquet"), "-o", odd(suffix)))
    like = odd(".new" + suffix)
    good(run("features", odd(".docs.parquet"), "--like", odd(suffix), "-o", like))
    assert like.exists()


def test_sequence_models(run: Run) -> None:
    pytest.importorskip("matplotlib")
    for name, words in {
        "reviews": ("--valid", odd(".reviews.parquet"), "--embeddings", odd(".vec")),
        "spoken": ("--plot", odd(".png"), "--gradient-flow", odd(".flow.parquet")),
        "wave": ("--task", "forecast", "--window", "8", "--gradient-flow", odd(".svg")),
        "book": ("--task", "language", "--unit", "char"),
    }.items():
        corpus, model = odd(f".{name}.parquet"), odd(f".{name}")
        out = good(run("fit-lstm", corpus, "-o", model, *FIT, *words))
        assert rf"caf\xe9.{name}" in out
        assert rf"caf\xe9.{name} already exists" in run(
            "fit-lstm", corpus, "-o", model, *FIT, *words
        ).error  # fmt: skip
        good(run("fit-lstm", corpus, "-o", model, *FIT, *words, "--epochs", "2", "--resume"))
        good(run("test", model, corpus))
        assert verify(model) == []
        good(run("info", model, "--verify"))
        good(run("info", model, "--format", "json")).encode()
        json.loads((model / "manifest.json").read_text("ascii"))
        if name != "book":
            out_file = odd(f".{name}.out.parquet")
            good(run("predict", model, corpus, "-o", out_file))
            # a forecast for each row after the first window, and one beyond the end
            expected = len(rows(corpus)) - (7 if name == "wave" else 0)
            assert len(rows(out_file)) == expected
            assert r".out.parquet: is also an input" in run(
                "predict", model, out_file, "-o", out_file
            ).error  # fmt: skip
        else:
            good(run("generate", model, "--length", "5"))
    assert rows(odd(".flow.parquet"))
    assert load(odd(".reviews")).embeddings is not None  # type: ignore[union-attr]


def test_fasttext_classifier(run: Run) -> None:
    corpus, model = odd(".reviews.parquet"), odd(".fasttext")
    words = ("--dimensions", "2", "--buckets", "16", "--threads", "1", "--vectors", odd(".vec"))
    out = good(run("fit-fasttext-classifier", corpus, "-o", model, "--export", odd(".bin"), *words))
    assert r"caf\xe9.bin" in out
    good(run("test", model, corpus))
    good(run("predict", model, corpus, "-o", odd(".out.parquet")))
    good(run("info", model, "--verify"))


def test_word_vectors_and_phrases(run: Run) -> None:
    pytest.importorskip("matplotlib")
    corpus = odd(".book.parquet")
    for name in ("word2vec", "fasttext", "glove"):
        buckets = ("--buckets", "16") if name == "fasttext" else ()
        good(run(f"fit-{name}", corpus, "-o", odd(f".{name}"), *VECTORS, *buckets))
        good(run("neighbors", odd(f".{name}"), "cat", "--plot", odd(f".{name}.png")))
        good(run("info", odd(f".{name}"), "--verify"))
    good(run("fit-word2vec", corpus, "-o", odd(".more"), *VECTORS, "--start", odd(".word2vec"),
             "--valid", corpus))  # fmt: skip
    for name in ("w.vec", "w.bin", "w.vec.gz", "w.parquet"):
        good(run("export", odd(".word2vec"), odd(name)))
        assert "dog" in good(run("neighbors", odd(name), "cat"))
    good(run("export", odd(".fasttext"), odd("m.bin"), "--format", "fasttext"))
    assert "dog" in good(run("neighbors", odd("m.bin"), "cat"))
    good(run("analogy", odd("w.parquet"), "cat", "dog", "mat"))
    measured = good(run("test-vectors", odd(".vec"), "--similarity", odd(".pairs.tsv"),
                        "--format", "json"))  # fmt: skip
    assert json.loads(measured)["similarity"][0]["file"] == r"caf\xe9/caf\xe9.pairs.tsv"
    good(run("test-vectors", odd(".vec"), "--similarity", odd(".pairs.tsv")))
    good(run("phrases", corpus, "--min-count", "1", "--threshold", "0"))


@pytest.mark.usefixtures("small_library")
def test_sample(run: Run) -> None:
    assert r"caf\xe9/caf\xe9.demo/docs.parquet" in good(run("sample", odd(".demo")))
    good(run("sample", odd(".demo")))


def test_errors_escape_the_name(run: Run) -> None:
    missing, broken = odd(".gone.parquet"), odd(".broken.parquet")
    broken.write_bytes(b"PAR1 and no more")
    model = odd(".gone")
    for words in (
        ("index", missing), ("index", broken), ("features", broken, "-o", "x"),
        ("search", "cat", "-i", model), ("search", "--queries", missing, "-i", model),
        ("search", "--queries", broken, "-i", model), ("evaluate", missing, odd(".qrels")),
        ("evaluate", broken, odd(".qrels")), ("predict", model, odd(".docs.parquet")),
        ("test", model, missing), ("generate", model), ("neighbors", missing, "cat"),
        ("neighbors", broken, "cat"), ("export", broken, "v.vec"), ("info", model),
        ("info", broken), ("fit-lstm", broken), ("fit-word2vec", broken), ("phrases", missing),
        ("fit-fasttext-classifier", broken), ("analogy", missing, "a", "b", "c"),
        ("test-vectors", odd(".vec"), "--analogies", missing), ("sample", broken),
        ("export", odd(".vec"), Path(ODD, ODD, "v.vec")),
    ):  # fmt: skip
        error = run(*words).error
        assert r"caf\xe9/caf\xe9" in error, words
        assert error.isascii()


def test_python_errors_are_printable(here: Path) -> None:
    error = DataError(f"{odd('.x')}: no such file")
    assert str(error) == r"caf\xe9/caf\xe9.x: no such file"
    assert f"{error}".encode("ascii")
