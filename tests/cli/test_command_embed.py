"""fastseq embed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastseq.models.bert.encoding import TextEncoder
from fastseq.nn.precisions import has_instructions
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


def test_description_of_a_checkpoint(run: Run, tmp_path: Path) -> None:
    pairs = run("info", "model", "--verify").pairs
    shown = [pairs[name] for name in ("kind", "layers", "pooling", "max length", "verified")]
    assert shown == ["checkpoint of BERT", "2", "mean", "8", "all weights are finite"]
    weights = write_checkpoint(tmp_path / "spoilt")
    path = tmp_path / "spoilt" / "model.safetensors"
    name = "encoder.layer.1.output.dense.bias"
    place = path.read_bytes().index(weights[name].tobytes())
    content = bytearray(path.read_bytes())
    content[place : place + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    assert name in run("info", "spoilt", "--verify").error


def test_precision(run: Run, write: Write) -> None:
    write("docs.parquet", id=[1, 2], text=["a dog", "the cat sat"])
    ran = run("embed", "model", "docs.parquet", "-o", "out.parquet", "--precision", "int8")
    assert ran.code == 0, ran.err
    assert has_instructions("int8") != ("no instructions for int8" in ran.err)
    found = np.array(pq.read_table("out.parquet")["vector"].to_pylist())
    expected = TextEncoder.load("model").encode(["a dog", "the cat sat"])
    np.testing.assert_allclose(found, expected, atol=0.05)


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
    assert "needs a name" in run(*embed, "--vector-column", "").error
    pieces = [*(f"w{i}" for i in range(99)), "[UNK]", "[CLS]", "[SEP]"]
    Path("model/vocab.txt").write_text("\n".join(pieces))
    assert "tokens, the weights" in run(*embed).error
