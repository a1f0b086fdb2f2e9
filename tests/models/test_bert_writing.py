"""Checkpoints that fastseq writes: read back to the same bits, and as other programs read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from safetensors import safe_open

from fastseq import BertClassifier, BertRegressor, TextEncoder
from fastseq.errors import SettingsError
from fastseq.models.bert.checkpoint import Sentences, read_checkpoint
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.writing import ENCODER, write_checkpoint
from fastseq.text.tokenizer_files import read_tokenizer
from tests.bert_checkpoints import CONFIG, weights_of
from tests.bert_checkpoints import write_checkpoint as write_base

TEXTS = ["the cat sat", "a dog ran on the mat", "cat cat .", "", "dogs Running, [MASK] Élan 3"]
LABELS = ["cat", "dog", "cat", "dog", "dog"]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_exported_model_is_a_checkpoint(pooling: str, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    write_base(base)
    kind = BertClassifier if pooling == "cls" else BertRegressor
    model = kind(base=base, pooling=pooling, epochs=1, threads=1, max_length=9)
    model.fit(TEXTS, LABELS if pooling == "cls" else [1.0, 2, 3, 4, 5])
    model.export(out)
    found, views = read_checkpoint(out), model.learned.network.parameters.views
    for name, array in found.weights.items():
        np.testing.assert_array_equal(array, views[f"bert.{name}"])
    for name, array in found.others.items():
        own = name if name.startswith("classifier") else f"bert.{name}"
        np.testing.assert_array_equal(array, views[own])
    assert len(found.weights) + len(found.others) == len(views)
    assert found.config == model.learned.config
    config = json.loads((out / "config.json").read_text())
    names = list(safe_open(out / "model.safetensors", "np").keys())
    if pooling == "cls":
        assert config["architectures"] == ["BertForSequenceClassification"]
        assert config["id2label"] == {"0": "cat", "1": "dog"}
        assert {"bert.pooler.dense.bias", "classifier.weight"} < set(names)
    else:
        assert config["architectures"] == [ENCODER]
        assert config["problem_type"] == "regression"
        assert not any(name.startswith("bert.") for name in names)
        assert found.sentences == Sentences("mean", False, 9)
        encoder = TextEncoder.load(out, threads=1)
        assert encoder.encode(TEXTS[:2]).shape == (2, CONFIG["hidden_size"])
    again = BertRegressor(base=out, epochs=1, threads=1).fit(TEXTS, [1.0, 2, 3, 4, 5])
    assert again.n_parameters_ > 0
    with pytest.raises(SettingsError, match="already exists: overwrite=True"):
        model.export(out)
    model.export(out, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    with pytest.raises(SettingsError, match="with other files"):
        model.export(tmp_path / "other", overwrite=True)
    with pytest.raises(SettingsError, match="no such folder"):
        model.export(tmp_path / "none" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "other", "out"]  # nothing is left


def test_the_tokenizer_and_the_modules_are_read_back(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    tokenizer = read_tokenizer(tmp_path / "base")
    config = BertConfig.from_dict(CONFIG, "config")
    weights = {f"bert.{name}": array for name, array in weights_of(CONFIG).items()}
    sentences = Sentences("max", True, 7, {"query": "the ", "é": "a "}, "the ", True)
    write_checkpoint(tmp_path / "out", ENCODER, config, weights, tokenizer, sentences=sentences)
    assert read_checkpoint(tmp_path / "out").sentences == sentences
    read = read_tokenizer(tmp_path / "out")
    assert read.vocabulary == tokenizer.vocabulary
    options = tokenizer.options
    assert set(read.options.pop("added")) == set(options.pop("added"))
    assert read.options | {"added": 0} == options | {"added": 0}
    other = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for text in TEXTS:
        ids = tokenizer.encode_pairs([text], ["the mat"]).ids.tolist()
        assert other.encode(text, "the mat").ids == ids
