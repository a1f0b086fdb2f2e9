"""Invalid rows are named by file and row, whichever command reads them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run

GOOD = ["the cat sat on the mat", "a dog ran after the cat", "the mat was red"]
BAD_ROW = 2  # of the second file, in its second row group


def strings(values: list[bytes]) -> pa.Array:
    """Strings, valid or not."""
    return pa.array(values, pa.binary()).view(pa.string())


def write(path: Path, bad: bool, **more: list[str]) -> None:
    texts = [text.encode() for text in GOOD]
    if bad:
        texts[BAD_ROW] = b"caf\xe9 on the mat"
    tokens = pa.ListArray.from_arrays([0, 1, 2, 3], strings(texts))
    tags = [["N"], ["V"], ["N"]]
    table = {"text": strings(texts), "label": ["x", "y", "x"], "tokens": tokens, "tags": tags}
    pq.write_table(pa.table(table), path, row_group_size=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good file and one with a bad text, read one after the other."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.parquet", bad=False)
    write(tmp_path / "data" / "b.parquet", bad=True)
    return tmp_path / "data"


SMALL = ("--epochs", 1, "--hidden", 4, "--embedding", 4)
COMMANDS = {
    "index": ("index", "{}", "-o", "idx"),
    "index with n-grams": ("index", "{}", "-o", "idx", "--ngrams", "1-2"),
    "features": ("features", "{}", "-o", "out.npz", "--text-column", "text"),
    "fit-word2vec": ("fit-word2vec", "{}", "--text-column", "text", "-o", "v"),
    "fit-fasttext": ("fit-fasttext", "{}", "--text-column", "text", "-o", "v"),
    "fit-glove": ("fit-glove", "{}", "--text-column", "text", "-o", "v"),
    "phrases": ("phrases", "{}", "--text-column", "text"),
    "classify": ("fit-lstm", "{}", "--task", "classify", *SMALL),
    "tag": ("fit-lstm", "{}", "--task", "tag", *SMALL),
    "language": ("fit-lstm", "{}", "--task", "language", *SMALL),
    "valid": ("fit-lstm", "{}/a.parquet", "--task", "classify", "--valid", "{}", *SMALL),
    "fit-fasttext-classifier": ("fit-fasttext-classifier", "{}", "--epochs", 1),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_invalid_text_is_named_by_file_and_row(
    run: Run, folder: Path, words: tuple[object, ...]
) -> None:
    ran = run(*(str(word).format(folder) for word in words))
    assert ran.code == 1
    assert f"b.parquet: row {BAD_ROW} (from 0): its text is not valid UTF-8" in ran.err


def test_invalid_text_is_an_error_with_the_option_that_reads_it(run: Run, folder: Path) -> None:
    error = run("index", folder, "-o", "idx").error
    assert error.endswith("(an analyzer with --on-invalid replace reads it as U+FFFD)")


def test_duplicate_ids_are_named_by_file_and_row(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, ids in (("a", ["x", "y"]), ("b", ["z", "y"])):
        pq.write_table(pa.table({"id": ids, "text": ids}), tmp_path / "data" / f"{name}.parquet")
    error = run("index", "data").error
    assert "'y' (data/a.parquet: row 1 (from 0), data/b.parquet: row 1 (from 0))" in error


def test_invalid_text_is_named_when_a_model_is_used(run: Run, folder: Path) -> None:
    assert run("fit-lstm", folder / "a.parquet", "--task", "classify", *SMALL, "-o", "m").code == 0
    words = ("--epochs", 1, "--dimensions", 16, "--buckets", 16, "-o", "f")
    assert run("fit-fasttext-classifier", folder / "a.parquet", *words).code == 0
    for command, model in product(("predict", "test"), ("m", "f")):
        ran = run(command, model, folder)
        assert ran.code == 1
        assert f"b.parquet: row {BAD_ROW} (from 0): its text is not valid UTF-8" in ran.err
