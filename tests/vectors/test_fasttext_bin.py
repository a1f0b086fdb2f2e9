"""fastText's .bin format: files by gensim, hand-made files, and every kind of damage."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastseq.errors import DataError, SettingsError
from fastseq.types import Texts
from fastseq.vectors import fasttext_bin as module
from fastseq.vectors.fasttext_bin import (
    FastTextFile,
    FastTextSettings,
    read_fasttext,
    write_fasttext,
)
from fastseq.vectors.formats import read_word_vectors
from tests.naive import subwords as naive

GOLDEN = Path(__file__).parent.parent / "golden" / "vectors"
WORDS = ["</s>", "the", "naïve", "猫", "cat"]
LABELS = ["__label__0", "__label__好"]
MODEL = {"cbow": 1, "skipgram": 2, "supervised": 3}
BUCKETS, D = 7, 3
INPUT = np.random.default_rng(1).normal(size=(len(WORDS) + BUCKETS, D)).astype(np.float32)
OUTPUT = np.random.default_rng(2).normal(size=(len(WORDS), D)).astype(np.float32)


def fields_of(
    model: str = "skipgram", version: int = 12, low: int = 2, high: int = 3, labels: bool = False
) -> dict[str, bytes]:
    """A file by hand, from structural boundary to structural boundary."""
    entries = dict.fromkeys(WORDS, 0) | (dict.fromkeys(LABELS, 1) if labels else {})
    rows = len(LABELS) if model == "supervised" else len(WORDS)
    parts = {
        "magic": struct.pack("<i", 793712314),
        "version": struct.pack("<i", version),
        "settings": struct.pack("<12i", D, 4, 6, 2, 8, 1, 2, MODEL[model], BUCKETS, low, high, 50),
        "sample": struct.pack("<d", 0.01),
        "sizes": struct.pack("<3i", len(entries), len(WORDS), len(entries) - len(WORDS)),
        "tokens": struct.pack("<q", 1234),
        "pruned": struct.pack("<q", -1),
    }
    for number, (word, kind) in enumerate(entries.items()):
        parts[f"word {number}"] = word.encode() + b"\0"
        parts[f"count {number}"] = struct.pack("<q", 100 - number)
        parts[f"kind {number}"] = struct.pack("<b", kind)
    for name, matrix in (("input", INPUT), ("output", OUTPUT[:rows])):
        parts[f"{name} mark"] = b"\0"
        parts[f"{name} rows"] = struct.pack("<q", len(matrix))
        parts[f"{name} columns"] = struct.pack("<q", D)
        parts[name] = matrix.astype("<f4").tobytes()
    return parts


def put(tmp_path: Path, content: bytes | dict[str, bytes], name: str = "m.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else b"".join(content.values()))
    return path


def expected(word: str, low: int = 2, high: int = 3) -> list[float]:
    """The mean of a word's rows, in float64."""
    rows = [INPUT[WORDS.index(word)]] if word in WORDS else []
    rows += [INPUT[len(WORDS) + bucket] for bucket in naive.buckets(word, low, high, BUCKETS)]
    return naive.vector([row.tolist() for row in rows])


def test_gensim_model_is_read() -> None:
    said = json.loads((GOLDEN / "gensim.json").read_text("utf-8"))
    file = read_fasttext(GOLDEN / "gensim.bin")
    assert file.words.to_strings() == said["words"]
    assert file.counts.tolist() == said["counts"]
    assert file.settings == FastTextSettings(
        dimensions=4, window=5, epochs=5, min_count=1, negatives=5, word_ngrams=1, loss="ns",
        model="skipgram", buckets=50, low=2, high=4, update_rate=100, sample=0.001,
    )  # fmt: skip
    assert file.tokens == sum(said["counts"])
    np.testing.assert_allclose(file.vectors(file.words), said["vectors"], rtol=0, atol=1e-6)
    unknown = file.vectors(Texts.from_strings(said["unknown"]))
    np.testing.assert_allclose(unknown, list(said["unknown"].values()), rtol=0, atol=1e-6)
    words, vectors = read_word_vectors(GOLDEN / "gensim.bin")
    assert words == said["words"]
    np.testing.assert_allclose(vectors, said["vectors"], rtol=0, atol=1e-6)


def test_gensim_model_is_rewritten_byte_for_byte(tmp_path: Path) -> None:
    write_fasttext(tmp_path / "m.bin", read_fasttext(GOLDEN / "gensim.bin"))
    assert (tmp_path / "m.bin").read_bytes() == (GOLDEN / "gensim.bin").read_bytes()
    write_fasttext(tmp_path / "m.bin.gz", read_fasttext(GOLDEN / "gensim.bin"))
    packed = gzip.decompress((tmp_path / "m.bin.gz").read_bytes())
    assert packed == (GOLDEN / "gensim.bin").read_bytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("model", "labels"), [("skipgram", False), ("cbow", True), ("supervised", True)]
)
def test_every_field_is_read(
    pack: Callable[[bytes], bytes], model: str, labels: bool, tmp_path: Path
) -> None:
    content = b"".join(fields_of(model, labels=labels).values())
    file = read_fasttext(put(tmp_path, pack(content)))
    assert file.settings == FastTextSettings(D, 4, 6, 2, 8, 1, "ns", model, BUCKETS, 2, 3, 50, 0.01)
    assert file.words.to_strings() == WORDS + (LABELS if labels else [])
    assert file.counts.tolist() == [100 - n for n in range(len(file.words))]
    assert file.is_label.tolist() == [False] * 5 + [True] * (2 if labels else 0)
    assert file.num_words == 5
    assert file.tokens == 1234
    assert file.input.tobytes() == INPUT.tobytes()
    assert file.output.tobytes() == OUTPUT[: 2 if model == "supervised" else 5].tobytes()
    assert file.input.flags.writeable
    assert file.input.flags.c_contiguous
    write_fasttext(tmp_path / "again.bin", file)
    assert (tmp_path / "again.bin").read_bytes() == content


@pytest.mark.parametrize("block", [1 << 22, 24])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_vectors_of_words(
    pack: Callable[[bytes], bytes], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in blocks of two rows, and two words at a time."""
    if block == 24:
        monkeypatch.setattr(module, "_BLOCK", block)
        monkeypatch.setattr(module, "_WORDS", 2)
    path = put(tmp_path, pack(b"".join(fields_of(labels=True).values())))
    words, vectors = read_word_vectors(path)
    assert words == WORDS
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [expected(word) for word in WORDS], rtol=0, atol=1e-6)
    assert vectors[0].tobytes() == INPUT[0].tobytes()  # </s> has no n-grams
    words, vectors = read_word_vectors(path, {"猫", "the", "unknown", LABELS[0]})
    assert words == ["the", "猫"]
    np.testing.assert_allclose(vectors, [expected(word) for word in words], rtol=0, atol=1e-6)
    words, vectors = read_word_vectors(path, {"unknown"})
    assert words == []
    assert vectors.shape == (0, D)
    asked = ["cat", "cats", "猫猫", "</s>", "a"]
    found = read_fasttext(path).vectors(Texts.from_strings(asked))
    np.testing.assert_allclose(found, [expected(word) for word in asked], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("version", "model", "low", "high", "like"),
    [
        (11, "supervised", 2, 3, (0, 0)),  # as fastText reads it
        (11, "skipgram", 2, 3, (2, 3)),
        (12, "supervised", 2, 3, (2, 3)),
        (12, "skipgram", 0, 3, (1, 3)),
        (12, "skipgram", 0, 0, (0, 0)),
        (12, "skipgram", 4, 3, (0, 0)),
    ],
)
def test_existing_ngrams(
    version: int, model: str, low: int, high: int, like: tuple[int, int], tmp_path: Path
) -> None:
    path = put(tmp_path, fields_of(model, version, low, high, labels=True))
    file = read_fasttext(path)
    assert file.settings.ngrams == like
    wanted = [expected(word, *like) for word in WORDS]
    np.testing.assert_allclose(read_word_vectors(path)[1], wanted, rtol=0, atol=1e-6)
    write_fasttext(path, file)
    assert read_fasttext(path).settings == file.settings
    assert path.read_bytes()[4] == 12
    if like == (0, 0):
        assert not file.vectors(Texts.from_strings(["unknown"])).any()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated_files_are_rejected(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """At every structural boundary, and in the middle of everything."""
    content = b"".join(fields_of("supervised", labels=True).values())
    for length in range(0, len(content), 1 if pack is bytes else 5):
        path = put(tmp_path, pack(content[:length]))
        with pytest.raises(DataError) as caught:
            read_fasttext(path)
        assert str(caught.value).startswith(f"{path}: cut short: ")
        for wanted in (None, {"cat"}, {"unknown"}):
            # what is shorter than the magic number could be anything
            with pytest.raises(DataError, match="cut short" if length > 3 else "m.bin"):
                read_word_vectors(path, wanted)


@pytest.mark.parametrize("name", fields_of())
def test_truncation_error_names_the_missing_part(name: str, tmp_path: Path) -> None:
    parts = fields_of()
    missing = list(parts)[list(parts).index(name) :]
    path = put(tmp_path, b"".join(data for piece, data in parts.items() if piece not in missing))
    with pytest.raises(DataError) as caught:
        read_fasttext(path)
    assert str(path) in str(caught.value)
    said = dict.fromkeys(("word", "count", "kind"), "of the dictionary")
    said |= dict.fromkeys(("tokens", "pruned"), "of the sizes of the dictionary")
    said |= {"sample": "bytes of the settings"}
    kind = name.split()[0]
    assert said.get(kind, f" the {kind}") in str(caught.value)


DAMAGE: list[tuple[str, bytes, str]] = [
    ("magic", b"\0\0\0\0", "not a model of fastText"),
    ("version", struct.pack("<i", 10), "version 10, expected 11 or 12"),
    ("version", struct.pack("<i", 13), "version 13, expected 11 or 12"),
    ("settings", struct.pack("<i", -3), "dimensions must be a whole number of at least 1, not -3"),
    ("settings", struct.pack("<i", 1 << 30), f"the input is 12 x 3, expected 12 x {1 << 30}"),
    ("settings", struct.pack("<12i", 3, 4, 6, 2, 8, 1, 9, 2, 7, 2, 3, 50), "loss is 9"),
    ("settings", struct.pack("<12i", 3, 4, 6, 2, 8, 1, 2, 0, 7, 2, 3, 50), "model is 0"),
    ("settings", struct.pack("<12i", 3, 4, 6, 2, 8, 1, 2, 2, -7, 2, 3, 50), "buckets must be"),
    ("settings", struct.pack("<12i", 3, 4, 6, 2, 8, 1, 2, 2, 0, 2, 3, 50), "buckets must be"),
    ("settings", struct.pack("<12i", 3, 4, 6, 2, 8, 1, 2, 2, 9, 2, 3, 50), "expected 14 x 3 by"),
    ("settings", struct.pack("<12i", 3, 4, 6, 2, 8, 1, 2, 2, 7, -2, 3, 50), "low must be"),
    ("sample", struct.pack("<d", np.nan), "sample must be"),
    ("sizes", struct.pack("<3i", 1 << 30, 1 << 30, 0), "of the dictionary of 1073741824 entries"),
    ("sizes", struct.pack("<3i", -5, -5, 0), "-5 entries"),
    ("sizes", struct.pack("<3i", 5, 4, 0), "5 entries, 4 words, 0 labels"),
    ("sizes", struct.pack("<3i", 5, 6, -1), "5 entries, 6 words, -1 labels"),
    ("sizes", struct.pack("<3i", 5, 4, 1), "entry 5 is a word; 4 words come first"),
    ("sizes", struct.pack("<3i", 6, 6, 0), "entry 6 has"),
    ("sizes", struct.pack("<3i", 4, 4, 0), "the input"),
    ("tokens", struct.pack("<q", -1), "-1 tokens"),
    ("pruned", struct.pack("<q", 0), "a pruned fastText model"),
    ("pruned", struct.pack("<q", 1 << 40), "a pruned fastText model"),
    ("pruned", struct.pack("<q", -2), "damaged"),
    ("word 1", b"\0", "entry 2 has 0 bytes"),
    ("count 2", struct.pack("<q", -1), "entry 3 has 6 bytes, count -1"),
    ("kind 3", b"\1", "entry 4 is a label; 5 words come first"),
    ("kind 3", b"\2", "kind 2"),
    ("input mark", b"\1", "a quantised fastText model (.ftz)"),
    ("input mark", b"\7", "the mark of the input is 7"),
    ("input rows", struct.pack("<q", 1 << 60), f"the input is {1 << 60} x 3, expected 12 x 3"),
    ("input rows", struct.pack("<q", 11), "the input is 11 x 3, expected 12 x 3"),
    ("input rows", struct.pack("<q", -12), "the input is -12 x 3"),
    ("input columns", struct.pack("<q", 4), "the input is 12 x 4, expected 12 x 3"),
    ("output mark", b"\3", "the mark of the output is 3"),
    ("output rows", struct.pack("<q", 6), "the output is 6 x 3, expected 5 x 3"),
    ("output columns", struct.pack("<q", 1 << 62), "the output is 5 x"),
    ("output", OUTPUT.tobytes() + b"\0", "has more data after the output matrix"),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("name", "data", "said"), DAMAGE)
def test_flipped_fields_are_rejected(
    name: str, data: bytes, said: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    parts = fields_of()
    whole = data if name.startswith("word") else data + parts[name][len(data) :]
    path = put(tmp_path, pack(b"".join((parts | {name: whole}).values())))
    with pytest.raises(DataError) as caught:
        read_fasttext(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(DataError):
        read_word_vectors(path, {"cat"})


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_consistent_but_too_large_sizes_are_rejected(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A small file that declares 2^31 buckets is rejected before memory is allocated."""
    most, wide = (1 << 31) - 1, (1 << 31) - 1
    parts = fields_of() | {
        "settings": struct.pack("<12i", wide, 4, 6, 2, 8, 1, 2, 2, most, 2, 3, 50),
        "input rows": struct.pack("<q", most + len(WORDS)),
        "input columns": struct.pack("<q", wide),
    }
    path = put(tmp_path, pack(b"".join(parts.values())))
    for read in (read_fasttext, read_word_vectors):
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=r"cut short: expected \d{20} bytes of the input"):
                read(path)
            assert tracemalloc.get_traced_memory()[1] < 1 << 27
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(("matrix", "row"), [("input", 1), ("input", 12), ("output", 5)])
def test_non_finite_values_are_rejected(matrix: str, row: int, tmp_path: Path) -> None:
    numbers = {"input": INPUT, "output": OUTPUT}[matrix].copy()
    numbers[row - 1, 1] = np.inf
    path = put(tmp_path, fields_of() | {matrix: numbers.tobytes()})
    with pytest.raises(DataError, match=f"row {row} of the {matrix} matrix holds"):
        read_fasttext(path)
    if row == 1:
        with pytest.raises(DataError, match="row 1 of the input matrix holds"):
            read_word_vectors(path)
        assert read_word_vectors(path, {"cat"})[0] == ["cat"]  # which does not need that row


def test_rows_with_non_finite_sums_are_rejected(tmp_path: Path) -> None:
    path = put(tmp_path, fields_of() | {"input": np.full_like(INPUT, 3e38).tobytes()})
    with pytest.raises(DataError, match="word 2 holds a number that is not finite"):
        read_word_vectors(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 and so on", b"PAR1 and so on", b"2 2\na 1 2\nb 3 4\n", b"\0" * 500],
)
def test_other_files_are_rejected(content: bytes, tmp_path: Path) -> None:
    for path in (put(tmp_path, content), put(tmp_path, gzip.compress(content), "m.bin.gz")):
        with pytest.raises(DataError, match="cut short" if not content else "not a model"):
            read_fasttext(path)
    with pytest.raises(DataError, match="no such file"):
        read_fasttext(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_fasttext(tmp_path)


def test_unterminated_word_is_rejected(tmp_path: Path) -> None:
    content = b"".join(list(fields_of().values())[:7]) + b"x" * 200_000
    with pytest.raises(DataError, match="entry 1 has no end of its word"):
        read_fasttext(put(tmp_path, content))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_raises_only_data_errors(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(b"".join(fields_of("supervised", labels=True).values()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    path = put(tmp_path, gzip.compress(kept) if data.draw(st.booleans()) else kept)
    for read in (read_fasttext, read_word_vectors):
        message = str(path)
        try:
            found: Any = read(path)
        except DataError as error:
            message = str(error)
        else:
            numbers = found.input if isinstance(found, FastTextFile) else found[1]
            assert np.isfinite(numbers).all()
        assert str(path) in message
        assert "\n" not in message


def example(**changes: Any) -> FastTextFile:
    file = read_fasttext(GOLDEN / "gensim.bin")
    return replace(file, **changes)


def named(first: str) -> Texts:
    words = read_fasttext(GOLDEN / "gensim.bin").words.to_strings()
    return Texts.from_strings([first, *words[1:]])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words": named("")}, "entry 1 is empty"),
        ({"words": named("a\0b")}, "entry 1 is empty, too long or holds"),
        ({"words": named("猫")}, "'猫' is there twice (entry 2)"),
        ({"counts": np.full(17, -1)}, "a count is negative"),
        ({"tokens": -1}, "a count is negative"),
        ({"input": np.full((67, 4), np.nan, np.float32)}, "row 1 of the input matrix"),
        ({"output": np.full((17, 4), np.inf, np.float32)}, "row 1 of the output matrix"),
    ],
)
def test_unwritable_models_are_rejected(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"before")
    with pytest.raises(DataError) as caught:
        write_fasttext(tmp_path / "m.bin", example(**changes))
    assert said in str(caught.value)
    assert str(tmp_path / "m.bin") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m.bin"]
    assert (tmp_path / "m.bin").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": np.ones(16, np.int64)}, "counts of a fastText model is int64[16]"),
        ({"is_label": np.zeros(18, bool)}, "is_label of a fastText model is bool[18]"),
        ({"is_label": np.arange(17) == 0}, "input of a fastText model is float32[67, 4]"),
        ({"input": np.zeros((67, 4))}, "is float64[67, 4], expected float32[67, 4]"),
        ({"input": np.zeros((67, 5), np.float32)}, "is float32[67, 5], expected float32[67, 4]"),
        ({"output": np.zeros((16, 4), np.float32)}, "output of a fastText model is"),
        (
            {
                "is_label": np.arange(17) == 0,
                "input": np.zeros((66, 4), np.float32),
                "output": np.zeros((16, 4), np.float32),
            },
            "a label before a word",
        ),
    ],
)
def test_mismatched_parts_are_rejected(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        example(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dimensions": 0}, "dimensions"),
        ({"epochs": -1}, "epochs"),
        ({"loss": "nce"}, "loss is 'nce'"),
        ({"model": "glove"}, "model is 'glove'"),
        ({"buckets": 0}, "buckets"),
        ({"sample": -1.0}, "sample"),
    ],
)
def test_wrong_settings_are_rejected(changes: dict[str, Any], said: str) -> None:
    assert FastTextSettings(buckets=0, high=0).ngrams == (0, 0)
    with pytest.raises(SettingsError, match=said):
        FastTextSettings(**changes)
