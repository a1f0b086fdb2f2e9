"""Words in a plane: the right places, labels apart, the same file each time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from fastseq import WordVectors
from fastseq.errors import DataError, MissingExtraError, SettingsError
from fastseq.vectors import plots
from fastseq.vectors.plots import plane, word_map

WORDS = [f"word{n}" for n in range(60)] + ["$a_b", "猫"]
ARRAY = np.random.default_rng(2).normal(size=(62, 10)).astype(np.float32)
KNOWN = WordVectors(WORDS, ARRAY)


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 20), st.integers(2, 8), st.integers(0, 2**32))
def test_plane_matches_the_covariance(n: int, d: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    units = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    values, axes = np.linalg.eigh(np.cov(units.T, bias=True))
    places, shares = plane(rows)
    assert places.shape == (n, 2)
    for at in range(2):
        value = max(values[-1 - at], 0)
        np.testing.assert_allclose(places[:, at].var(), value, atol=1e-6)
        np.testing.assert_allclose(shares[at], value / values.sum(), atol=1e-5)
        along = (units - units.mean(0)) @ axes[:, -1 - at]
        apart = at + 1 >= d or values[-1 - at] - values[-2 - at] > 1e-3
        if apart and (at == 0 or values[-1] - values[-2] > 1e-3):
            np.testing.assert_allclose(np.abs(places[:, at]), np.abs(along), atol=1e-3)


def test_signs_do_not_depend_on_the_order_of_words() -> None:
    order = np.random.default_rng(0).permutation(62)
    np.testing.assert_allclose(plane(ARRAY[order])[0], plane(ARRAY)[0][order], atol=1e-6)


def test_vectors_on_a_line_or_a_point() -> None:
    places, shares = plane(np.array([[1, 0], [2, 0], [-1, 0]], np.float32))
    assert shares.tolist() == pytest.approx([1, 0])
    assert not places[:, 1].any()
    places, shares = plane(np.ones((3, 2), np.float32))
    assert not places.any()
    assert not shares.any()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plots_are_reproducible(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        assert word_map(KNOWN, ["word1", "word2"], tmp_path / f"{name}{suffix}", k=4) > 5
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert len(list(tmp_path.iterdir())) == 2, "nothing temporary is left"


def test_every_word_is_drawn_once(tmp_path: Path) -> None:
    drawn = word_map(KNOWN, ["word3", "$a_b", "word3"], tmp_path / "m.svg", k=5)
    text = (tmp_path / "m.svg").read_text("utf-8")
    near = {w for pair in KNOWN.neighbors_of_each(["word3", "$a_b"], 5) for w, _ in pair}
    names = near | {"word3", "$a_b"}
    assert drawn == len(names)
    for name in names:
        assert text.count(f">{name}</text>") == 1, name


@pytest.mark.filterwarnings("error")
def test_characters_without_a_font_are_drawn_without_a_warning(tmp_path: Path) -> None:
    names = ["\u4f60\u597d", "\U0001f600", "\u0e01\u0915", "plain"]
    vectors = WordVectors(names, np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32))
    assert word_map(vectors, names, tmp_path / "words.png", 0) == 4


def test_labels_do_not_overlap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figure = Figure(figsize=plots.INCHES, layout="constrained")
    monkeypatch.setattr(plots, "drawn", lambda path, inches, draw: draw(figure))
    word_map(KNOWN, WORDS[:4], tmp_path / "m.png", k=5)
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) > 15
    frame = figure.axes[0].bbox
    for at, box in enumerate(boxes):
        assert frame.x0 - 1 <= box.x0 <= box.x1 <= frame.x1 + 1
        assert frame.y0 - 1 <= box.y0 <= box.y1 <= frame.y1 + 1
        for other in boxes[:at]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width <= 1 or height <= 1


def test_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong: list[tuple[Any, ...]] = [
        (DataError, "three", ["word1", "word1"], "m.png", 0),
        (DataError, "wordx", ["wordx"], "m.png", 3),
        (SettingsError, "k", ["word1"], "m.png", -1),
        (SettingsError, ".svg", ["word1"], "m.gif", 3),
        (SettingsError, "folder", ["word1"], "no/m.png", 3),
    ]
    for error, said, words, name, k in wrong:
        with pytest.raises(error, match=said):
            word_map(KNOWN, words, tmp_path / name, k)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        word_map(KNOWN, ["word1"], tmp_path / "m.png")
