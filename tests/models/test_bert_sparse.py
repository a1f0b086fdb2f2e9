"""Learned-sparse vectors of texts by a masked-language model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastseq.errors import DataError, FastseqWarning, FormatError, SettingsError
from fastseq.models.bert.encoding import TextEncoder
from fastseq.models.bert.sparse import SparseEncoder
from tests.bert_checkpoints import (
    CONFIG,
    HEAD,
    PIECES,
    hidden_of,
    masked_weights_of,
    weights_of,
    write_checkpoint,
)
from tests.naive.transformer import gelu, layer_norm

CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")


def expected_of(weights: dict[str, np.ndarray], text: str) -> dict[str, float]:
    """SPLADE's formula in float64, of a text whose words are pieces."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    ids = [CLS, *(PIECES.index(word) for word in text.split()), SEP]
    plain = {name.removeprefix("bert."): values for name, values in weights.items()}
    x = hidden_of(CONFIG, plain, [ids])[0]
    x = x @ w[f"{HEAD}transform.dense.weight"].T + w[f"{HEAD}transform.dense.bias"]
    x = gelu(x, False)[0]
    norm = (w[f"{HEAD}transform.LayerNorm.{part}"] for part in ("weight", "bias"))
    x = layer_norm(x, *norm, CONFIG["layer_norm_eps"])[0]
    words = w.get(f"{HEAD}decoder.weight", w["bert.embeddings.word_embeddings.weight"])
    scores = x @ words.T + w[f"{HEAD}bias"]
    found = np.log1p(np.maximum(scores, 0)).max(axis=0)
    return {word: found[id] for id, word in enumerate(PIECES) if found[id] > 0}


def close(found: object, expected: dict[str, float]) -> None:
    assert found == pytest.approx(expected, abs=1e-5)
    assert isinstance(found, dict)
    assert [*found.values()] == sorted(found.values(), reverse=True)


def test_weights_are_those_of_the_definition(tmp_path: Path) -> None:
    weights = masked_weights_of()
    write_checkpoint(tmp_path / "m", weights=weights)
    encoder = SparseEncoder.load(tmp_path / "m")
    texts = ["the cat sat on the mat .", "a dog", "a"]
    for text, found in zip(texts, encoder.encode(texts), strict=True):
        close(found, expected_of(weights, text))
    one = encoder.encode(texts[0])
    assert isinstance(one, dict)
    assert 3 < len(one) < len(PIECES)
    best = SparseEncoder.load(tmp_path / "m", top_terms=3).encode(texts[0])
    assert best == dict([*one.items()][:3])
    # names of an untied decoder, and of a bias of its own
    untied = {**weights, f"{HEAD}decoder.weight": weights_of(CONFIG, 5)[
        "embeddings.word_embeddings.weight"]}  # fmt: skip
    write_checkpoint(tmp_path / "u", weights=untied)
    close(SparseEncoder.load(tmp_path / "u").encode(texts[0]), expected_of(untied, texts[0]))
    untied[f"{HEAD}decoder.bias"] = untied.pop(f"{HEAD}bias")
    write_checkpoint(tmp_path / "b", weights=untied)
    assert SparseEncoder.load(tmp_path / "b").encode(texts) == SparseEncoder.load(
        tmp_path / "u"
    ).encode(texts)


def test_the_same_bits_in_any_batch_and_windows(tmp_path: Path) -> None:
    # more words than pieces: those without a name have no weight
    config = {**CONFIG, "max_position_embeddings": 200, "vocab_size": 150}
    weights = masked_weights_of(config)
    write_checkpoint(tmp_path / "m", config, weights)
    rng = np.random.default_rng(3)
    words = [piece for piece in PIECES[5:] if piece[0] != "#"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 190))) for _ in range(40)]
    encoder = SparseEncoder.load(tmp_path / "m", threads=1)
    alone = [encoder.encode(text) for text in texts]
    assert all(term in PIECES for terms in alone for term in terms)
    for threads in (1, 3):
        several = SparseEncoder.load(tmp_path / "m", threads=threads)
        assert several.encode(texts[::-1])[::-1] == alone
    short = SparseEncoder.load(tmp_path / "m", max_length=6)
    parts = [short.encode(text) for text in ("the cat sat on", "the mat . a", "dog")]
    expected = {
        term: max(part.get(term, 0.0) for part in parts)  # type: ignore[union-attr]
        for term in set().union(*parts)
    }
    with pytest.warns(FastseqWarning, match="split into windows"):
        found = short.encode(["", "the cat sat on the mat . a dog"], on_truncate="split")
    assert found[0] == {}
    assert found[1] == expected


def test_folders_of_sentence_transformers_and_bad_ones(tmp_path: Path) -> None:
    weights = masked_weights_of()
    write_checkpoint(tmp_path / "m", weights=weights, limit=9)
    own = "sentence_transformers.sparse_encoder.models"
    modules = [
        {"idx": 0, "path": "", "type": f"{own}.MLMTransformer"},
        {"idx": 1, "path": "1_SpladePooling", "type": f"{own}.SpladePooling"},
    ]
    (tmp_path / "m" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "m" / "1_SpladePooling").mkdir()
    pooling = tmp_path / "m" / "1_SpladePooling" / "config.json"
    pooling.write_text('{"pooling_strategy": "max", "activation_function": "relu"}')
    encoder = SparseEncoder.load(tmp_path / "m")
    assert encoder.max_length == 9
    close(encoder.encode("a cat"), expected_of(weights, "a cat"))
    pooling.write_text('{"pooling_strategy": "sum"}')
    with pytest.raises(FormatError, match=r"pooling_strategy is 'sum'"):
        SparseEncoder.load(tmp_path / "m")
    pooling.write_text("[]")
    with pytest.raises(FormatError, match="pooling module"):
        SparseEncoder.load(tmp_path / "m")
    pooling.write_text("{}")
    with pytest.raises(SettingsError, match="top_terms"):
        SparseEncoder.load(tmp_path / "m", top_terms=0)
    encoder = SparseEncoder.load(tmp_path / "m")
    with pytest.raises(DataError, match="row 1 "):
        encoder.encode(["a", "the cat sat on the mat . a dog"], on_truncate="error")
    for name, message in (
        (f"{HEAD}transform.LayerNorm.bias", "is missing"), (f"{HEAD}bias", "of shape"),
    ):  # fmt: skip
        wrong = {**weights, name: np.zeros(3, np.float32)}
        if message == "is missing":
            del wrong[name]
        write_checkpoint(tmp_path / "w", weights=wrong)
        with pytest.raises(FormatError, match=rf"no masked-word head: .*{name}.*{message}"):
            SparseEncoder.load(tmp_path / "w")
    TextEncoder.load(tmp_path / "w")  # whatever the head is
