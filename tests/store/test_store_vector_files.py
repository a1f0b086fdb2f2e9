"""Writing of word vectors: round trips in every form, and errors."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.store import vector_files as module
from fastseq.store.vector_files import write_word_vectors
from fastseq.types import Texts
from fastseq.vectors.formats import read_word_vectors

WORDS = ["the", "猫", "naïve", ",", '"', "7", "a\u00a0b", "\u2028", "-0.5", "\\n"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
VECTORS[1] = [0, -0.0, 1, 123456789, 1e-45]
VECTORS[2] = [3.4028235e38, -1.1754944e-38, 0.1, 1e22, 16777217]
NAMES = ["v.vec", "v.TXT", "v.bin", "v.parquet", "v.vec.gz", "v.txt.gz", "v.bin.GZ"]


@pytest.mark.parametrize("numbers", [1 << 22, 7])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_written(
    name: str, numbers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a word at a time."""
    monkeypatch.setattr(module, "_NUMBERS", numbers)
    monkeypatch.setattr(module, "_GROUP", numbers)
    write_word_vectors(tmp_path / name, WORDS, VECTORS)
    words, vectors = read_word_vectors(tmp_path / name)
    assert words == WORDS
    assert vectors.tobytes() == VECTORS.tobytes()
    assert (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b" or not name.lower().endswith(".gz")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_text_file_content(tmp_path: Path) -> None:
    vectors = np.array([[1, -0.5, 0.1], [1 / 3, 1e-10, 2**24]], np.float32)
    write_word_vectors(tmp_path / "v.vec", ["猫", "b"], vectors)
    head, first, second, end = (tmp_path / "v.vec").read_text("utf-8").split("\n")
    assert head == "2 3"
    assert end == ""
    assert first == "猫 1 -0.5 0.1"
    assert [float(n) for n in second.split()[1:]] == [0.33333334, 1e-10, 16777216]
    assert len(second.split()[1]) == len("0.33333334")  # no more digits than it takes


def test_binary_file_content(tmp_path: Path) -> None:
    write_word_vectors(tmp_path / "v.bin", ["猫", "b"], VECTORS[:2])
    expected = b"2 5\n" + b"".join(
        word.encode() + b" " + row.astype("<f4").tobytes() + b"\n"
        for word, row in zip(["猫", "b"], VECTORS, strict=False)
    )
    assert (tmp_path / "v.bin").read_bytes() == expected


def test_parquet_file_content(tmp_path: Path) -> None:
    words = ["two words", " ", "line\nend", "猫"]
    write_word_vectors(tmp_path / "v.parquet", words, VECTORS[:4])
    table = pq.read_table(tmp_path / "v.parquet")
    assert table.schema.equals(
        pa.schema([("word", pa.string()), ("vector", pa.list_(pa.float32(), 5))])
    )
    assert table["word"].to_pylist() == words
    assert table["vector"].to_pylist() == VECTORS[:4].tolist()
    assert read_word_vectors(tmp_path / "v.parquet")[0] == words


def test_explicit_forms(tmp_path: Path) -> None:
    for form in ("text", "binary", "parquet"):
        write_word_vectors(tmp_path / form, WORDS, VECTORS, form)
        assert read_word_vectors(tmp_path / form)[1].tobytes() == VECTORS.tobytes()
    write_word_vectors(tmp_path / "v.bin", WORDS, VECTORS, "text")
    assert (tmp_path / "v.bin").read_bytes() == (tmp_path / "text").read_bytes()
    write_word_vectors(tmp_path / "packed.gz", WORDS, VECTORS, "binary")
    assert gzip.decompress((tmp_path / "packed.gz").read_bytes()) == (
        (tmp_path / "binary").read_bytes()
    )


def test_files_are_reproducible(tmp_path: Path) -> None:
    for name in NAMES:
        write_word_vectors(tmp_path / name, WORDS, VECTORS)
        first = (tmp_path / name).read_bytes()
        (tmp_path / name).rename(tmp_path / "other")
        write_word_vectors(tmp_path / name, WORDS, VECTORS)
        assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("name", NAMES)
def test_texts_and_matrices_of_any_layout(name: str, tmp_path: Path) -> None:
    texts = Texts.from_strings(["left", "out", *WORDS])
    part = Texts(texts.data, texts.offsets[2:])
    strided = np.repeat(VECTORS, 2, axis=1)[:, ::2]
    strided.flags.writeable = False
    write_word_vectors(tmp_path / name, part, strided)
    words, vectors = read_word_vectors(tmp_path / name)
    assert words == WORDS
    assert vectors.tobytes() == VECTORS.tobytes()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.sampled_from(NAMES),
)
def test_any_numbers(tmp_path: Path, numbers: list[float], name: str) -> None:
    vectors = np.array([numbers, numbers[::-1]], np.float32)
    write_word_vectors(tmp_path / name, ["a", "b"], vectors)
    assert read_word_vectors(tmp_path / name)[1].tobytes() == vectors.tobytes()


@pytest.mark.parametrize("name", ["v.vec", "v.bin"])
def test_the_matrix_is_not_copied(name: str, tmp_path: Path) -> None:
    vectors = np.broadcast_to(np.float32([0.5]), (40_000, 100))  # 16 MB, of which 4 bytes exist
    words = Texts.from_strings(f"w{i}" for i in range(len(vectors)))
    tracemalloc.start()
    try:
        write_word_vectors(tmp_path / name, words, vectors)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < vectors.nbytes / 2
    assert read_word_vectors(tmp_path / name, {"w39999"})[1].tolist() == [[0.5] * 100]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "word 3 is empty"),
        ("two words", "word 3, 'two words', has white space"),
        ("tab\t", r"word 3, 'tab\t', has white space"),
        ("end\n", r"word 3, 'end\n', has white space"),
        ("\r", "has white space"),
        ("zero\0", "has white space or a zero byte"),
        ("x" * 100 + " ", "word 3, '" + "x" * 39 + "…', has white space"),
        ("\ud800", r"word 3, b'\xed\xa0\x80', is not valid UTF-8"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("numbers", [1 << 22, 10])
def test_unwritable_words_are_rejected(
    word: str, said: str, name: str, numbers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NUMBERS", numbers)
    monkeypatch.setattr(module, "_GROUP", numbers)
    (tmp_path / name).write_bytes(b"before")
    words = ["a", "b", word, "猫"]
    if name == "v.parquet" and "white space" in said:
        write_word_vectors(tmp_path / name, words, VECTORS[:4])
        assert read_word_vectors(tmp_path / name)[0] == words
        return
    with pytest.raises(DataError) as caught:
        write_word_vectors(tmp_path / name, words, VECTORS[:4])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / name).read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("words", "vectors", "said"),
    [
        (["a"], VECTORS[:2], "1 words, 2 vectors"),
        ([], VECTORS[:0], "expected float32[words, dimensions], at least one of each"),
        (["a"], np.zeros((1, 0), np.float32), "vectors are float32[1, 0]"),
        (["a"], np.zeros(1, np.float32), "vectors are float32[1]"),
        (["a"], np.zeros((1, 2)), "vectors are float64[1, 2]"),
        (["a", "猫"], np.float32([[1], [np.nan]]), "the vector of word 2, '猫', holds a number"),
        (["a", "猫"], np.float32([[-np.inf], [1]]), "the vector of word 1, 'a', holds a number"),
    ],
)
def test_unwritable_vectors_are_rejected(
    words: list[str], vectors: Any, said: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        write_word_vectors(tmp_path / name, words, vectors)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("v.npy", None, "cannot tell the form of word vectors; expected .vec, .txt, .bin"),
        ("vectors", None, "cannot tell the form"),
        ("v.gz", None, "cannot tell the form"),
        ("v.parquet.gz", None, "expected a name without .gz"),
        ("v.gz", "parquet", "expected a name without .gz"),
        ("v.vec", "glove", "form is 'glove'; expected one of text, binary, parquet"),
        ("no/v.vec", None, "no such folder"),
        ("no/v.parquet", None, "no such folder"),
    ],
)
def test_unwritable_paths(name: str, form: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        write_word_vectors(tmp_path / name, WORDS, VECTORS, form)
    assert said in str(caught.value)
