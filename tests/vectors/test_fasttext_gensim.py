"""Models of fastText's form go to gensim and come from it with the same vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq.store.vector_files import write_word_vectors
from fastseq.types import Texts
from fastseq.vectors.fasttext_bin import read_fasttext, write_fasttext
from fastseq.vectors.formats import read_word_vectors

fasttext = pytest.importorskip("gensim.models.fasttext")

ROWS = [
    row.split()
    for row in (
        "the cat sat on the mat with the dog",
        "naïve Zürich élan über 猫 喜欢 吃 鱼 🎉",
        "the dog and the cat 猫 naïve",
    )
]
UNKNOWN = ["cats", "Zürcher", "犬猫", "z", "🎉🎉"]


def vectors(model: Any, words: list[str]) -> Any:
    return np.array([model.wv[word] for word in words])


@pytest.mark.parametrize(
    "options",
    [{"sg": 1}, {"sg": 0, "hs": 1, "negative": 0}, {"min_n": 1, "max_n": 2, "bucket": 7}],
)
def test_models_are_exchanged_with_gensim(options: dict[str, int], tmp_path: Path) -> None:
    model = fasttext.FastText(
        ROWS, **{"vector_size": 6, "bucket": 60, "min_count": 1, "workers": 1} | options
    )
    fasttext.save_facebook_model(model, str(tmp_path / "theirs.bin"))
    file = read_fasttext(tmp_path / "theirs.bin")
    known = file.words.to_strings()
    assert known == model.wv.index_to_key
    expected = vectors(model, known + UNKNOWN)
    found = file.vectors(Texts.from_strings(known + UNKNOWN))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    words, read = read_word_vectors(tmp_path / "theirs.bin")
    assert words == known
    np.testing.assert_allclose(read, expected[: len(known)], rtol=0, atol=1e-6)
    write_fasttext(tmp_path / "ours.bin", file)
    loaded = fasttext.load_facebook_model(str(tmp_path / "ours.bin"))
    np.testing.assert_allclose(vectors(loaded, known + UNKNOWN), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["v.vec", "v.bin", "v.txt.gz", "v.bin.gz"])
def test_word2vec_formats_are_exchanged_with_gensim(name: str, tmp_path: Path) -> None:
    keyed = pytest.importorskip("gensim.models.keyedvectors").KeyedVectors
    words = list(dict.fromkeys(word for row in ROWS for word in row))
    numbers = np.random.default_rng(0).normal(size=(len(words), 7)).astype(np.float32)
    write_word_vectors(tmp_path / name, words, numbers)
    loaded = keyed.load_word2vec_format(str(tmp_path / name), binary=".bin" in name)
    assert loaded.index_to_key == words
    assert loaded.vectors.tobytes() == numbers.tobytes()
    loaded.save_word2vec_format(str(tmp_path / f"theirs{name}"), binary=".bin" in name)
    assert read_word_vectors(tmp_path / f"theirs{name}")[1].tobytes() == numbers.tobytes()
