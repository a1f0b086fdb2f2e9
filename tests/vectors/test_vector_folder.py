"""The folder of word vectors: what is written is read, and all that can be wrong with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fastseq import WordVectors
from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.folder import MANIFEST, describe, read_manifest, verify
from fastseq.store.writer import FolderWriter
from fastseq.vectors.folder import (
    CHECKPOINT,
    KIND,
    VECTORS,
    VERSION,
    WORDS,
    read_vectors,
    write_vectors,
)
from fastseq.vectors.formats import read_word_vectors

NAMES = ["the", "猫", "new york", "naïve", "\u2028"]
ARRAYS: dict[str, Any] = {
    "vectors": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
    "output": np.arange(15, dtype=np.float32).reshape(5, 3),
    "points": np.arange(7, dtype=np.uint8),
    "codes": np.arange(4, dtype=np.int64),
}
COUNTS = np.array([9, 5, 5, 1, 0])


def write(path: Path, **changed: Any) -> Path:
    given_: dict[str, Any] = {
        "words": NAMES,
        "arrays": ARRAYS,
        "counts": COUNTS,
        "settings": {"model": "word2vec", "window": 5},
        "statistics": {"tokens": 20},
    }
    write_vectors(path, **(given_ | changed))
    return path


def test_vector_folder_round_trips(tmp_path: Path) -> None:
    content = read_vectors(write(tmp_path / "new" / "vectors"))
    assert content.words == NAMES
    assert content.counts is not None
    np.testing.assert_array_equal(content.counts, COUNTS, strict=True)
    assert set(content.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(content.arrays[name], array, strict=True)
        assert content.arrays[name].flags.writeable
        assert content.arrays[name].flags.aligned
    assert content.settings == {"model": "word2vec", "window": 5}
    assert content.statistics == {"words": 5, "dimensions": 3, "tokens": 20}
    assert content.vectors is content.arrays["vectors"]
    assert verify(content.path) == []


def test_arrays_are_converted_to_float32(tmp_path: Path) -> None:
    wide = np.asfortranarray(ARRAYS["vectors"].astype(np.float64))
    content = read_vectors(write(tmp_path / "v", arrays={"vectors": wide}, counts=None))
    np.testing.assert_array_equal(content.vectors, ARRAYS["vectors"], strict=True)
    assert content.counts is None


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    turned = dict(reversed(ARRAYS.items()))
    third = write(tmp_path / "c", arrays=turned)
    for name in (MANIFEST, WORDS, VECTORS):
        content = {(folder / name).read_bytes() for folder in (first, second, third)}
        assert len(content) == 1, name


def test_other_programs_read_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "v")
    arrays = load_file(path / VECTORS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
    assert pq.read_table(path / WORDS).to_pydict() == {"word": NAMES, "count": COUNTS.tolist()}


def test_arrays_of_other_programs_are_read(tmp_path: Path) -> None:
    """The safetensors library orders arrays its own way, and not all of them aligned."""
    save_file({**ARRAYS, "z": np.arange(3, dtype=np.uint8)}, tmp_path / "s", {"made": "here"})
    with FolderWriter(tmp_path / "v", KIND, VERSION) as writer:
        shutil.copy(tmp_path / "s", writer.path(VECTORS))
        writer.adopt(VECTORS)
        table = pa.table({"word": NAMES, "count": [None] * 5})
        pq.write_table(table, writer.path(WORDS))
        writer.adopt(WORDS)
        writer.commit({}, {})
    content = read_vectors(tmp_path / "v")
    assert set(content.arrays) == {*ARRAYS, "z"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(content.arrays[name], array, strict=True)
        assert content.arrays[name].flags.aligned


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True
    ),
    st.integers(1, 9),
    st.booleans(),
)
def test_round_trips(tmp_path_factory: Any, words: list[str], d: int, counted: bool) -> None:
    path = tmp_path_factory.mktemp("round") / "v"
    array = np.random.default_rng(d).normal(size=(len(words), d)).astype(np.float32)
    saved = WordVectors(words, array, range(len(words)) if counted else None, settings={"a": 1})
    saved.save(path)
    loaded = WordVectors.load(path)
    assert loaded.words == words
    np.testing.assert_array_equal(loaded.vectors, array, strict=True)
    assert (loaded.counts is None) == (not counted)
    assert loaded.settings == {"a": 1}
    loaded.save(path, overwrite=True)
    assert read_vectors(path).counts is None or counted
    assert loaded.neighbors(words[0]) == saved.neighbors(words[0])


def test_subwords_are_saved_with_the_vectors(tmp_path: Path) -> None:
    class Pieces:
        arrays: dict[str, Any] = {"subwords": ARRAYS["output"]}  # noqa: RUF012
        settings: dict[str, Any] = {"least": 3}  # noqa: RUF012

        def vectors_of(self, words: list[str]) -> Any:
            raise AssertionError(words)

    WordVectors(NAMES, ARRAYS["vectors"], subwords=Pieces()).save(tmp_path / "v")
    content = read_vectors(tmp_path / "v")
    np.testing.assert_array_equal(content.arrays["subwords"], ARRAYS["output"])
    assert content.settings["subwords"] == {"least": 3}


def test_vector_files_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("cat 1 2\ndog 2 1\n")
    loaded = WordVectors.load(tmp_path / "v.txt")
    assert loaded.words == read_word_vectors(tmp_path / "v.txt")[0]
    assert loaded.counts is None
    assert loaded.neighbors("cat")[0][0] == "dog"
    with pytest.raises(DataError, match=r"gone\.txt"):
        WordVectors.load(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"words": [*NAMES[:4], "the"]}, "word 4.*twice"),
        ({"words": NAMES[:4]}, "4 words, but 5"),
        ({"words": [*NAMES[:4], "\udc80"]}, "word 4.*Unicode"),
        ({"arrays": {}}, "no array 'vectors'"),
        ({"arrays": {"vectors": np.zeros(5, np.float32)}}, "shape"),
        ({"arrays": {"vectors": np.zeros((5, 0), np.float32)}}, "shape"),
        ({"arrays": {"vectors": np.zeros((5, 3), np.int32)}}, "int32"),
        ({"arrays": ARRAYS | {"output": np.full((5, 3), np.nan)}}, "output: row 0"),
        ({"arrays": ARRAYS | {"output": np.full((5, 3), 1e300)}}, "output: row 0"),
        ({"arrays": ARRAYS | {"names": np.array(["a"])}}, "names.*expected one of float32"),
        ({"counts": [1, 2]}, "counts"),
    ],
)
def test_unwritable_vectors_are_rejected(tmp_path: Path, changed: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        write(tmp_path / "v", **changed)
    assert not (tmp_path / "v").exists()


def test_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "v")
    with pytest.raises(SettingsError, match="overwrite"):
        write(path)
    (path / CHECKPOINT).mkdir()
    (path / CHECKPOINT / "some").write_text("")
    write(path, overwrite=True)
    assert not (path / CHECKPOINT).exists()
    assert read_vectors(path).words == NAMES
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("")
    with pytest.raises(SettingsError, match="not fastseq's"):
        write(tmp_path / "other", overwrite=True)


# ---- damage


def rewritten(path: Path, name: str, content: bytes) -> Path:
    """A folder whose file `name` was exchanged by someone who knows how to reckon checksums."""
    with FolderWriter(path.with_name("other"), KIND, VERSION) as writer:
        for each in (WORDS, VECTORS):
            old = (path / each).read_bytes()
            writer.path(each).write_bytes(content if each == name else old)
            writer.adopt(each)
        writer.commit({}, {})
    return path.with_name("other")


def test_truncation_is_detected_on_open(tmp_path: Path) -> None:
    path = write(tmp_path / "v")
    for name in read_manifest(path).files:
        whole = (path / name).read_bytes()
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            (path / name).unlink()
            (path / name).write_bytes(whole[:length])
            with pytest.raises(FormatError, match=name.rpartition("/")[2]):
                read_vectors(path)
            with pytest.raises(FormatError, match=name.rpartition("/")[2]):
                WordVectors.load(path)
        (path / name).unlink()
        with pytest.raises(FormatError, match="missing"):
            read_vectors(path)
        (path / name).write_bytes(whole)
    assert read_vectors(path).words == NAMES


def test_truncated_arrays_raise_format_errors(tmp_path: Path) -> None:
    """Even where manifest and checksums agree with it."""
    path = write(tmp_path / "v")
    whole = (path / VECTORS).read_bytes()
    for length in [*range(0, 80, 7), 100, 250, len(whole) - 1]:
        other = rewritten(path, VECTORS, whole[:length])
        with pytest.raises(FormatError, match="damaged"):
            read_vectors(other)
        shutil.rmtree(other)


def header(entries: Any, rest: int = 60) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(rest)


def entry(**changed: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [5, 3], "data_offsets": [0, 60], **changed}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        header([]),
        header({"vectors": 3}),
        header({"vectors": entry()}, 59),
        header({"vectors": entry(data_offsets=[-60, 0])}),
        header({"vectors": entry(data_offsets=[4, 60])}),
        header({"vectors": entry(data_offsets=["a", "b"])}),
        header({"vectors": entry(shape=[-5, -3])}),
        header({"vectors": entry(shape=[5, 3.0])}),
        header({"vectors": entry(shape=[5, 2**80], data_offsets=[0, 5 * 2**82])}),
        header({"vectors": entry(dtype="F64")}),
        header({"vectors": entry(dtype="I32")}),
        header({"vectors": entry(shape=[3, 5])}),
        header({"other": entry()}),
    ],
)
def test_inconsistent_arrays_are_rejected(tmp_path: Path, content: bytes) -> None:
    other = rewritten(write(tmp_path / "v"), VECTORS, content)
    with pytest.raises(FormatError, match="damaged"):
        read_vectors(other)


@pytest.mark.parametrize(
    "columns",
    [
        {"word": NAMES},
        {"word": NAMES[:4], "count": [1] * 4},
        {"word": [*NAMES[:4], "the"], "count": [1] * 5},
        {"word": [*NAMES[:4], None], "count": [1] * 5},
        {"word": NAMES, "count": [1, 2, 3, 4, None]},
        {"word": NAMES, "count": [1, 2, 3, 4, -5]},
        {"word": NAMES, "count": ["1"] * 5},
        {"word": [1, 2, 3, 4, 5], "count": [1] * 5},
    ],
)
def test_inconsistent_words_are_rejected(tmp_path: Path, columns: Any) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t")
    other = rewritten(write(tmp_path / "v"), WORDS, (tmp_path / "t").read_bytes())
    with pytest.raises(FormatError, match="damaged"):
        read_vectors(other)


def test_non_finite_value_is_detected_on_use(tmp_path: Path) -> None:
    """Opening looks at no vector; what is not in order has no neighbours."""
    path = write(tmp_path / "v", arrays={"vectors": ARRAYS["vectors"]})
    content = bytearray((path / VECTORS).read_bytes())
    content[-4:] = np.float32(np.inf).tobytes()
    loaded = WordVectors.load(rewritten(path, VECTORS, bytes(content)))
    with pytest.raises(DataError, match=r"row 4.*finite"):
        loaded.neighbors("the")


def test_flipped_bytes_are_found_by_verify(tmp_path: Path) -> None:
    path = write(tmp_path / "v")
    for name in read_manifest(path).files:
        content = bytearray((path / name).read_bytes())
        content[-1] ^= 1
        (path / name).write_bytes(content)
        assert name in verify(path)


def test_other_folders_are_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "v")
    manifest = read_manifest(path)
    for changed, said in (({"format_version": 99}, "version 99"), ({"kind": "model"}, "'model'")):
        (path / MANIFEST).write_bytes(replace(manifest, **changed).to_bytes())
        with pytest.raises(FormatError, match=said):
            WordVectors.load(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=MANIFEST):
        WordVectors.load(tmp_path / "empty")
    assert describe(write(tmp_path / "w"))["kind"] == KIND


def test_reader_keeps_the_opened_commit(tmp_path: Path) -> None:
    path = write(tmp_path / "v")
    content = read_vectors(path)
    write(path, arrays={"vectors": np.ones((5, 2))}, overwrite=True)
    np.testing.assert_array_equal(content.vectors, ARRAYS["vectors"])
    content.vectors[:] = 7  # a mapping of its own
    assert read_vectors(path).vectors.max() == 1
