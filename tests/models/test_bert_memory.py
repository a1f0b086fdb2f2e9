"""BERT where working memory is too small for a batch: allocations that fail."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseq import BertClassifier, BertEmbedder, BertPretrainer, BertRegressor, BertTagger
from fastseq.errors import FastseqWarning
from fastseq.models.bert.encoding import TextEncoder
from fastseq.models.bert.split_steps import SplitTask
from fastseq.nn.arrays import Workspace
from fastseq.nn.transformer import TransformerEncoder
from tests.bert_checkpoints import CONFIG, PIECES, write_checkpoint

RNG = np.random.default_rng(5)
WORDS = [piece for piece in PIECES[5:] if piece[0] != "#"]
TEXTS = [" ".join(RNG.choice(WORDS, n)) for n in (4, 9, 2, 7, 7, 3, 5, 8, 6, 4, 9)]
LABELS = ["cat" if "cat" in text else "dog" for text in TEXTS]
SENTENCES = [f"{text} . {text[::-1]} . {text} !" for text in TEXTS]
SETTINGS: dict[str, Any] = {"batch_size": 6, "epochs": 2, "learning_rate": 1e-3, "seed": 3}
SMALL: dict[str, Any] = {"layers": 1, "hidden": 8, "heads": 2, "positions": 32, "max_length": 32}
Limit = Callable[[int], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets the number of rows above which an array of activations is not allocated."""

    def set_limit(rows: int) -> None:
        found = Workspace.array

        def array(self: Workspace, name: object, *shape: int) -> Any:
            if len(shape) == 2 and shape[0] > rows:
                raise MemoryError
            return found(self, name, *shape)

        monkeypatch.setattr(Workspace, "array", array)

    return set_limit


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert") / "base"
    write_checkpoint(path, {**CONFIG, "max_position_embeddings": 64})
    return path


def trained(name: str, base: Path, **more: Any) -> Any:
    """A fitted model."""
    given = {**SETTINGS, "base": base, "threads": 2, **more}
    fit = given.pop("fit", {})
    if name == "classify":
        return BertClassifier(class_weights="balanced", **given).fit(TEXTS, LABELS, **fit)
    if name == "regress":
        return BertRegressor(**given).fit(TEXTS, [float(len(text)) for text in TEXTS], **fit)
    if name == "tag":
        rows = [text.split() for text in TEXTS]
        tags = [["A" if word == "cat" else "B" for word in row] for row in rows]
        return BertTagger(**given).fit(rows, tags, **fit)
    vocabulary = base / "vocab.txt"
    given |= {"base": None, "tokenizer": vocabulary, **SMALL}
    return BertPretrainer(**given).fit(SENTENCES, **fit)


def weights(model: Any) -> np.ndarray:
    return model.learned.network.parameters.values


@pytest.mark.parametrize("name", ["classify", "regress", "tag", "pretrain"])
def test_a_step_in_parts_is_the_same_step(name: str, base: Path, limit: Limit) -> None:
    # of Adam, whose steps do not depend on the size of a gradient, rounding errors would be large
    exact: dict[str, Any] = {"dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.1}
    whole = trained(name, base, **exact)
    limit(26 if name != "pretrain" else 40)
    with pytest.warns(FastseqWarning, match="too small for the activations of 6") as told:
        parts = trained(name, base, **exact)
    assert len(told) <= 2
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)
    assert not np.array_equal(weights(parts), weights(whole))
    columns = (model.history_.columns for model in (whole, parts))
    for a, b in zip(*(found["train_loss"] for found in columns), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize("name", ["classify", "pretrain"])
def test_a_step_that_is_repeated_has_the_bits_of_one_that_was_split_at_first(
    name: str, base: Path, limit: Limit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SplitTask, "_parts", 4)
    first = trained(name, base, dropout=0.1)
    monkeypatch.undo()
    limit(20 if name == "classify" else 60)
    path = tmp_path / "model"
    stop: dict[str, Any] = {"path": path, "checkpoint_seconds": 0}

    def interrupt(state: Any) -> None:
        if state.epoch == 2:
            raise KeyboardInterrupt

    told = "6 examples: gradients are computed for 2 at a time"
    with pytest.warns(FastseqWarning, match=told):
        again = trained(name, base, dropout=0.1)
    np.testing.assert_array_equal(weights(again), weights(first))
    with pytest.warns(FastseqWarning, match=told), pytest.raises(KeyboardInterrupt):
        trained(name, base, dropout=0.1, fit={**stop, "progress": interrupt})
    # without the limit: the parts are those of the checkpoint
    monkeypatch.undo()
    resumed = trained(name, base, dropout=0.1, fit={**stop, "resume": True})
    np.testing.assert_array_equal(weights(resumed), weights(first))


def test_an_example_that_does_not_fit_is_an_error(base: Path, limit: Limit) -> None:
    limit(5)
    with pytest.raises(MemoryError):
        trained("classify", base)
    limit(12)
    pairs = list(pairwise(TEXTS))
    with pytest.raises(MemoryError):  # whose loss needs the whole batch
        BertEmbedder(base=base, **SETTINGS).fit(pairs)


def test_layers_release_their_memory() -> None:
    layer = TransformerEncoder(2, 8, 2, 16, seed=1, dropout=0.0, attention_dropout=0.0)
    x, offsets = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32), [0, 4, 9]
    expected = layer.forward(x, offsets).copy()
    own = [weakref.ref(part._own._buffers["z"]) for part in layer.layers]  # type: ignore[attr-defined]
    assert all(ref() is not None for ref in own)
    layer.release()
    assert all(ref() is None for ref in own)
    np.testing.assert_array_equal(layer.forward(x, offsets), expected)
    layer.backward(x)


@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_have_the_same_bits_where_chunks_do_not_fit(
    threads: int, base: Path, limit: Limit
) -> None:
    encoder = TextEncoder.load(base, threads=threads)
    texts = TEXTS * 9
    expected, tokens = encoder.encode(texts), encoder.encode_tokens(texts)
    limit(40)
    with pytest.warns(FastseqWarning, match="too small for 512 tokens at a time") as told:
        found = encoder.encode(texts)
    assert len(told) == 1
    np.testing.assert_array_equal(found, expected)
    for a, b in zip(encoder.encode_tokens(texts), tokens, strict=True):  # chunks stay small
        np.testing.assert_array_equal(a.vectors, b.vectors)
    limit(10)
    with pytest.raises(MemoryError):  # [CLS], 9 words and [SEP]
        encoder.encode(texts)
