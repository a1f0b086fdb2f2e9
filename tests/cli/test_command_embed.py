"""fastseq embed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastseq
from fastseq.models.bert.encoding import TextEncoder, TokenVectors
from fastseq.models.bert.sparse import SparseEncoder
from fastseq.nn.encoder import Encoder
from fastseq.nn.precisions import has_instructions
from fastseq.store import predictions
from fastseq.store.rows import Corpus
from tests.bert_checkpoints import PIECES, masked_weights_of, write_checkpoint
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
    batch = next(Corpus.open("8.parquet", vectors="vector").batches())
    assert batch.vectors is not None
    assert batch.vectors.values[0].tolist() == table["vector"][0].as_py()


def test_sparse_vectors_are_indexed_and_searched(run: Run, write: Write) -> None:
    write_checkpoint(Path("splade"), weights=masked_weights_of())
    texts = ["the cats sat", None, "a dog ran on the mat ."]
    write("docs.parquet", id=[7, 8, 9], text=texts)
    embed = ("embed", "splade", "docs.parquet", "-o", "out.parquet", "--sparse")
    ran = run(*embed, "--top-terms", "5")
    assert ran.code == 0, ran.err
    table = pq.read_table("out.parquet")
    assert table.schema.field("impacts").type == pa.map_(pa.string(), pa.float32())
    assert table["impacts"].null_count == 1
    encoder = SparseEncoder.load("splade", top_terms=5)
    for row in (0, 2):
        assert dict(table["impacts"][row].as_py()) == encoder.encode(texts[row])
    ran = run("index", "out.parquet", "--impacts", "impacts", "-o", "i")
    assert ran.code == 0, ran.err
    query = SparseEncoder.load("splade").encode("a cat")
    expected = fastseq.Index.open("i").search(query, k=2)
    ran = run("search", "a cat", "-i", "i", "--sparse", "splade", "--format", "json")
    assert [hit["id"] for hit in json.loads(ran.out)] == expected.ids[0]
    write("queries.parquet", query_id=["q"], text=["a cat"])
    ran = run("search", "--queries", "queries.parquet", "-i", "i", "--sparse", "splade")
    assert [line.split()[2] for line in ran.out.splitlines()] == [str(id) for id in expected.ids[0]]

    assert "cannot be combined" in run(*embed, "--dtype", "int8").err
    assert "--top-terms requires --sparse" in run(*embed[:-1], "--top-terms", "3").err
    assert "no masked-word head" in run("embed", "model", *embed[2:]).error
    run("index", "docs.parquet", "-o", "words")
    assert "--impacts" in run("search", "a", "-i", "words", "--sparse", "splade").error
    assert "cannot be combined" in run("search", "a", "--sparse", "splade", "--dense").err


@pytest.mark.parametrize(
    ("model", "options"),
    [("model", ()), ("model", ("--pooling", "none", "--dtype", "int8")), ("splade", ("--sparse",))],
)
def test_an_interrupted_command_continues(
    run: Run, write: Write, monkeypatch: pytest.MonkeyPatch, model: str, options: tuple[str, ...]
) -> None:
    write_checkpoint(Path("splade"), weights=masked_weights_of(), limit=8)
    rng = np.random.default_rng(0)
    words = [piece for piece in PIECES[5:] if piece[0] != "#"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 12))) for _ in range(60)]
    write("docs.parquet", id=[*range(60)], text=texts)
    batches, encode = Corpus.batches, Encoder.encode
    monkeypatch.setattr(Corpus, "batches", lambda reader, *_: batches(reader, 100))
    monkeypatch.setattr(predictions, "GROUP_ROWS", 10)
    embed = ("embed", model, "docs.parquet", *options, "--threads", "1", "-o")
    whole = run(*embed, "whole.parquet")
    assert whole.code == 0, whole.err
    calls = 0

    def dying(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise KeyboardInterrupt
        encode(*given)

    monkeypatch.setattr(Encoder, "encode", dying)
    assert run(*embed, "out.parquet").code != 0
    assert Path("out.parquet.partial").is_dir()
    assert "another max_length: 8, now 5" in run(*embed, "out.parquet", "--max-length", "5").error
    monkeypatch.setattr(Encoder, "encode", encode)
    again = run(*embed, "out.parquet")
    assert "out.parquet: continued after" in again.err
    # texts, truncated ones and tokens are counted as without an interruption
    counts = [ran.err.replace("whole", "out").splitlines()[-3:] for ran in (whole, again)]
    assert counts[0] == counts[1]
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert not Path("out.parquet.partial").exists()


def test_contexts_of_a_word(run: Run, tmp_path: Path) -> None:
    texts = ["the cats sat", "a dog ran", "Cats ran . cats sat .", "cats , cats"]
    ran = run("contexts", "model", "cats", *texts, "-k", "9", "--format", "json", "--plot", "c.svg")
    assert ran.code == 0, ran.err
    assert Path("c.svg").stat().st_size > 1000
    found = json.loads(ran.out)
    assert len(found) == 5 * 4
    encoder = TextEncoder.load("model")
    vectors = []
    for text, spans in ((texts[0], [(4, 8)]), (texts[2], [(0, 4), (11, 15)])):
        tokens = encoder.encode_tokens(text)
        assert isinstance(tokens, TokenVectors)
        for start, stop in spans:
            own = (tokens.spans[:, 0] >= start) & (tokens.spans[:, 1] <= stop)
            assert own.sum() == 2  # cat ##s
            vectors.append(tokens.vectors[own].mean(0))
    units = [vector / np.linalg.norm(vector) for vector in vectors]
    first = [row for row in found if row["text"] == texts[0] and row["near"] == texts[2]]
    wanted = sorted((float(units[0] @ other) for other in units[1:]), reverse=True)
    assert [row["score"] for row in first] == pytest.approx(wanted, abs=1e-5)
    assert "occurs in none" in run("contexts", "model", "mice", *texts).err
    long = "the cat sat on the mat . cats"
    assert "beyond the 8 tokens" in run("contexts", "model", "cats", long).err


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


def test_bad_texts_and_damaged_weights(run: Run, write: Write) -> None:
    write("mega.parquet", id=[1, 2], text=["the cat " * 130_000, "a"])
    for options, done in (((), "truncated"), (("--on-truncate", "split"), "split into windows")):
        ran = run("embed", "model", "mega.parquet", "-o", "out.parquet", *options)
        assert f"1 text of 2 with more than 8 tokens was {done}" in ran.err
        vectors = pq.read_table("out.parquet")["vector"].to_pylist()
        np.testing.assert_array_equal(
            np.array(vectors[1], np.float32), TextEncoder.load("model").encode("a")
        )
    pq.write_table(pa.table({"text": [b"a", b"\xff"]}), "bytes.parquet")
    write_checkpoint(Path("splade"), weights=masked_weights_of())
    for model, options in (
        ("model", ()),
        ("model", ("--pooling", "none")),
        ("splade", ("--sparse",)),
    ):
        ran = run("embed", model, "bytes.parquet", "-o", "new.parquet", *options)
        assert "bytes.parquet: row 1 (from 0): its text is not valid UTF-8" in ran.error
    assert not Path("new.parquet").exists()
    weights = Path("model/model.safetensors")
    content = weights.read_bytes()
    for part in (content[:5], content[: len(content) // 2]):
        weights.write_bytes(part)
        assert "cut short" in run("embed", "model", "mega.parquet", "-o", "new.parquet").error
    Path("model/config.json").write_text("{}")
    missing = run("embed", "model", "mega.parquet", "-o", "new.parquet").error
    assert "model/config.json: vocab_size is missing" in missing
