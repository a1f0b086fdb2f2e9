"""Vectors of words never seen, from their n-grams."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastseq.errors import FormatError
from fastseq.text.subwords import Subwords
from fastseq.vectors.fasttext_bin import read_fasttext
from fastseq.vectors.subword_vectors import SubwordVectors
from fastseq.vectors.words import WordVectors

GOLDEN = Path(__file__).parents[1] / "golden" / "vectors"


def test_model_of_fasttext_has_vectors_for_every_word(tmp_path):
    wanted = json.loads((GOLDEN / "gensim.json").read_text("utf-8"))
    words = wanted["words"] + list(wanted["unknown"])
    known = WordVectors.load(GOLDEN / "gensim.bin")
    found = known.vectors_of(words)
    theirs = wanted["vectors"] + list(wanted["unknown"].values())
    np.testing.assert_allclose(found, theirs, atol=1e-6)
    known.save(tmp_path / "folder")
    np.testing.assert_array_equal(WordVectors.load(tmp_path / "folder").vectors_of(words), found)
    assert not any(word in known for word in wanted["unknown"])


def test_word_is_the_mean_of_its_n_grams():
    grams = Subwords(2, 3, 50)
    table = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    subwords = SubwordVectors(grams, table)
    file = read_fasttext(GOLDEN / "gensim.bin")
    assert file.subwords.grams.buckets == file.settings.buckets
    from tests.naive.subwords import buckets

    ids = buckets("over", 2, 3, 50)
    np.testing.assert_allclose(subwords.vectors_of(["over"])[0], table[ids].mean(axis=0), rtol=1e-5)


def test_settings_and_array_must_fit():
    table = np.zeros((5, 4), np.float32)
    arrays = {"subwords": table, "vectors": np.zeros((2, 4), np.float32)}
    grams = {"low": 3, "high": 6, "buckets": 5}
    with pytest.raises(FormatError, match="5 vectors of n-grams, expected 6"):
        SubwordVectors.from_folder(arrays, {"subwords": {**grams, "buckets": 6}})
    narrow = {**arrays, "vectors": np.zeros((2, 3), np.float32)}
    with pytest.raises(FormatError, match="they have 4 dimensions, those of words 3"):
        SubwordVectors.from_folder(narrow, {"subwords": grams})
    with pytest.raises(FormatError, match="damaged"):
        SubwordVectors.from_folder(arrays, {"subwords": {**grams, "low": -1}})
    with pytest.raises(FormatError, match="damaged"):
        SubwordVectors.from_folder({}, {"subwords": grams})
    assert SubwordVectors.from_folder({"subwords": table}, {}) is None


def test_buckets_without_a_row_count_as_zeros(tmp_path):
    grams = Subwords(2, 3, 50)
    rng = np.random.default_rng(0)
    used = np.array([40, 3, 17, 8, 21, 30], np.int32)
    rows = rng.normal(size=(6, 4)).astype(np.float32)
    table = np.zeros((50, 4), np.float32)
    table[used] = rows
    few, all_of_them = SubwordVectors(grams, rows, used), SubwordVectors(grams, table)
    words = ["over", "overall", "", "ü", "a b"]
    np.testing.assert_allclose(few.vectors_of(words), all_of_them.vectors_of(words), atol=1e-6)
    assert np.any(few.vectors_of(words))
    vectors = WordVectors(["one"], rng.normal(size=(1, 4)), subwords=few)
    vectors.save(tmp_path / "v")
    again = WordVectors.load(tmp_path / "v")
    np.testing.assert_array_equal(again.vectors_of(words), vectors.vectors_of(words))


@pytest.mark.parametrize(
    ("buckets", "message"),
    [
        ([0, 1], "3 vectors of n-grams, but int32"),
        ([0, 1, 50], "not below 50"),
        ([0, -1, 5], "not below 50"),
        ([0, 1, 1], "occurs twice"),
    ],
)
def test_damaged_buckets_are_rejected(buckets, message):
    table = np.zeros((3, 4), np.float32)
    with pytest.raises(FormatError, match=message):
        SubwordVectors(Subwords(2, 3, 50), table, np.array(buckets, np.int32))
