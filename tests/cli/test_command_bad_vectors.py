"""--skip-bad-lines in every command that reads word vectors from a file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run

GOOD = ["cat 1 0.5", "dog 0.9 0.4", "sat -1 0.2", "ran -0.8 0.1", "mat 0.1 1"]
SMALL = ("--epochs", 1, "--hidden", 4)
COMMANDS = {
    "neighbors": ("neighbors", "v.txt", "cat"),
    "analogy": ("analogy", "v.txt", "cat", "dog", "sat"),
    "export": ("export", "v.txt", "out.parquet"),
    "test-vectors": ("test-vectors", "v.txt", "--similarity", "pairs.tsv"),
    "search": ("search", "cat", "-i", "idx", "--expand", "v.txt"),
    "classify": ("fit-lstm", "d.parquet", "--embeddings", "v.txt", *SMALL),
    "language": ("fit-gru", "d.parquet", "--task", "language", "--text-column", "text",
        "--batch-size", 2,
        "--embeddings", "v.txt", *SMALL),
    "fit-fasttext-classifier": (
        "fit-fasttext-classifier", "d.parquet", "--vectors", "v.txt", "--dimensions", 2
    ),
    "fit-word2vec": (
        "fit-word2vec", "d.parquet", "--start", "v.txt", "--text-column", "text", "--epochs", 1,
        "--dimensions", 2, "--min-count", 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_line_without_a_word_is_named_and_can_be_skipped(
    run: Run, tmp_path: Path, words: tuple[object, ...]
) -> None:
    (tmp_path / "v.txt").write_text("\n".join([*GOOD[:3], " 0.7 0.7", *GOOD[3:]]) + "\n")
    (tmp_path / "pairs.tsv").write_text("cat\tdog\t9\nsat\tran\t8\ncat\tran\t1\n")
    texts = ["cat sat mat", "dog ran mat", "cat ran", "dog sat"] * 3
    table = pa.table({"text": texts, "label": ["x", "y"] * 6})
    pq.write_table(table, tmp_path / "d.parquet")
    if words[0] == "search":
        assert run("index", "d.parquet", "-o", "idx").code == 0
    ran = run(*words)
    assert ran.code == 1
    assert "v.txt: line 4 has no word before its numbers" in ran.err
    ran = run(*words, "--skip-bad-lines")
    assert ran.code == 0, ran.err
    said = "Notice: v.txt: damaged vectors skipped: 1: line 4 has no word before its numbers"
    assert ran.err.count(said) == 1
