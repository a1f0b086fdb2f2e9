"""fastseq embed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.models.bert.encoding import TextEncoder, TokenVectors
from tests.bert_checkpoints import write_checkpoint
from tests.cli.conftest import Run, Write


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "model", pooling="mean", limit=8)


def test_vectors_of_a_corpus(run: Run, write: Write) -> None:
    texts = ["the cat sat", None, "a dog ran on the mat , the cat sat .", "a"]
    write("docs.parquet", id=[7, 8, 9, 10], text=texts, title=["x", "y", "z", "w"])
    ran = run("embed", "model", "docs.parquet", "-o", "out.parquet", "--keep", "title")
    assert ran.code == 0, ran.err
    assert [line for line in ran.err.splitlines() if not line.startswith("Compiling")] == [
        "1 text of 4 without a token", "1 text of 4 with more than 8 tokens was truncated",
        "out.parquet: 4 rows, 16 tokens",
    ]  # fmt: skip
    table = pq.read_table("out.parquet")
    assert table.schema.names == ["id", "title", "vector"]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 24)
    assert table["vector"].null_count == 1
    encoder = TextEncoder.load("model")
    found = table["vector"].to_pylist()
    np.testing.assert_array_equal(np.array(found[0], np.float32), encoder.encode("the cat sat"))
    np.testing.assert_array_equal(np.array(found[3], np.float32), encoder.encode("a"))
    half = run("embed", "model", "docs.parquet", "-o", "half.parquet", "--dtype", "float16",
               "--vector-column", "v", "--on-truncate", "split")  # fmt: skip
    assert "was split into windows" in half.err
    column = pq.read_table("half.parquet")["v"]
    assert column.type == pa.list_(pa.float16(), 24)
    np.testing.assert_allclose(column.to_pylist()[0], found[0], atol=2e-3)


def test_vectors_of_tokens_and_int8(run: Run, write: Write) -> None:
    texts = ["the cats sat", "", "a dog ran on the mat , the cat sat ."]
    write("docs.parquet", id=[7, 8, 9], text=texts)
    ran = run("embed", "model", "docs.parquet", "-o", "out.parquet", "--pooling", "none",
              "--dtype", "int8", "--prompt", "a ")  # fmt: skip
    assert ran.code == 0, ran.err
    table = pq.read_table("out.parquet")
    assert table.schema.names == ["id", "tokens", "starts", "ends", "vector", "vector_scale"]
    assert table.schema.field("vector").type == pa.list_(pa.list_(pa.int8(), 24))
    rows = table.to_pylist()
    assert rows[1] == {"id": 8, **{name: [] for name in table.schema.names[1:]}}
    assert rows[0]["tokens"] == ["the", "cat", "##s", "sat"]
    assert (rows[0]["starts"], rows[0]["ends"]) == ([0, 4, 7, 9], [3, 7, 8, 12])
    found = TextEncoder.load("model").encode_tokens(texts[0], prompt="a ")
    assert isinstance(found, TokenVectors)
    again = np.array(rows[0]["vector"]) * np.array(rows[0]["vector_scale"])[:, None]
    np.testing.assert_allclose(again, found.vectors, atol=np.abs(found.vectors).max() / 250)

    assert run("embed", "model", "docs.parquet", "-o", "8.parquet", "--dtype", "int8").code == 0
    table = pq.read_table("8.parquet")
    assert table.schema.field("vector").type == pa.list_(pa.int8(), 24)
    assert table["vector_scale"].null_count == table["vector"].null_count == 1
    vector = np.array(table["vector"][0].as_py()) * table["vector_scale"][0].as_py()
    np.testing.assert_allclose(vector, TextEncoder.load("model").encode(texts[0]), atol=0.004)
    # cosines need no scales: the column is an index's as it is
    write("8.parquet", id=[7, 8, 9], text=texts, vector=table["vector"])
    ran = run("index", "8.parquet", "--dense-column", "vector", "-o", "i")
    assert ran.code == 0, ran.err


def test_wrong_input(run: Run, write: Write) -> None:
    write("docs.parquet", id=[1, 2], text=["a", "the cat sat on the mat . the dog ran"])
    embed = ("embed", "model", "docs.parquet", "-o", "out.parquet")
    assert "docs.parquet" in run(*embed, "--on-truncate", "error").error
    assert "row 1 " in run(*embed, "--on-truncate", "error").error
    assert not Path("out.parquet").exists()
    assert "no such folder" in run("embed", "none", *embed[2:]).error
    assert "16 positions" in run(*embed, "--max-length", "99").error
    assert "body" in run(*embed, "--text-column", "body").error
    assert "'id'" in run(*embed, "--vector-column", "id").error
    pieces = [*(f"w{i}" for i in range(99)), "[UNK]", "[CLS]", "[SEP]"]
    Path("model/vocab.txt").write_text("\n".join(pieces))
    assert "tokens, the weights" in run(*embed).error
