"""Checkpoints of BERT that are not read, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastseq.errors import DataError, FastseqWarning, FormatError
from fastseq.models.bert.checkpoint import read_checkpoint
from fastseq.models.bert.config import BertConfig
from tests.bert_checkpoints import CONFIG, weights_of, write_checkpoint


def test_settings_are_those_of_config_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", pooling="mean", limit=10, prompts={"query": "q: "})
    checkpoint = read_checkpoint(tmp_path / "m")
    config = checkpoint.config
    assert (config.hidden, config.layers, config.heads, config.intermediate) == (24, 2, 3, 40)
    assert (config.dropout, config.epsilon, config.is_tanh) == (0.1, 1e-12, False)
    assert BertConfig.from_dict(config.to_dict(), "it") == config
    sizes = {name: value for name, value in CONFIG.items() if isinstance(value, int)}
    assert BertConfig.from_dict(sizes, "it") == config  # the others are defaults
    (tmp_path / "m" / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 1}))
    with pytest.warns(FastseqWarning, match=r"encoder\.layer\.1.* is of a layer"):
        read_checkpoint(tmp_path / "m")
    sentences = checkpoint.sentences
    assert (sentences.pooling, sentences.normalize, sentences.most) == ("mean", True, 10)
    assert dict(sentences.prompts) == {"query": "q: "}


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_poolings_as_later_versions_write_them(tmp_path: Path, mode: str) -> None:
    write_checkpoint(tmp_path / "m", pooling="mean", normalize=False)
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    sentences = read_checkpoint(tmp_path / "m").sentences
    assert (sentences.pooling, sentences.normalize) == (mode, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "electra"}, "type 'electra', expected 'bert'"),
        ({"hidden_act": "relu"}, "activation 'relu' is not supported"),
        ({"hidden_act": []}, r"activation \[\] is not supported"),
        ({"num_hidden_layers": 1 << 30}, "num_hidden_layers is 1,073,741,824"),
        ({"max_position_embeddings": 2}, "2 positions, expected 3"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' are not supported"),
        ({"is_decoder": True}, "is_decoder is set"),
        ({"num_attention_heads": 5}, "hidden_size is 24, expected a multiple of"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is 1"),
    ],
)
def test_settings_that_are_not_supported(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_checkpoint(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(FormatError, match=message) as error:
        read_checkpoint(tmp_path / "m")
    assert "config.json" in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_checkpoint(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"config\.json: no such file"):
        read_checkpoint(tmp_path / "empty")
    write_checkpoint(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: no such file"):
        read_checkpoint(tmp_path / "m")
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FormatError, match=r"pytorch_model\.bin: weights in this format"):
        read_checkpoint(tmp_path / "m")


Damage = Callable[[Path], object]


def _cut(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[:-8])


def _rewrite(name: str, content: object) -> Damage:
    return lambda path: (path / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "not a safetensors file, or one cut short"),
        (lambda path: (path / "config.json").write_text("{"), "config.json: not JSON"),
        (_rewrite("config.json", []), "not the settings of a model"),
        (_rewrite("modules.json", [{"type": "a.Dense", "path": ""}]), "module 'Dense' is not supp"),
        (_rewrite("modules.json", [{"type": "a.Pooling", "path": ""}]), "the modules are Pooling"),
        (_rewrite("modules.json", {"a": 1}), "not a list of modules"),
        (_rewrite("1_Pooling/config.json", {"pooling_mode_lasttoken": True}), "lasttoken is not"),
        (_rewrite("1_Pooling/config.json", {}), "pooling of no mode"),
        (_rewrite("1_Pooling/config.json", {"pooling_mode": 5}), "pooling_mode_5 is not"),
        (_rewrite("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}), "mean and"),
        (
            _rewrite("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False}),
            "without the tokens of a prompt",
        ),
        (_rewrite("sentence_bert_config.json", {"max_seq_length": 2}), "a limit of 2 tokens"),
        (_rewrite("tokenizer_config.json", {"model_max_length": "many"}), "a limit of 'many'"),
        (_rewrite("sentence_bert_config.json", [1]), "not settings by name"),
        (_rewrite("config_sentence_transformers.json", {"prompts": {"q": 1}}), "not texts by name"),
        (_rewrite("config_sentence_transformers.json", {"prompts": {"q": "\ud800"}}), "not texts"),
        (_rewrite("config_sentence_transformers.json", {"default_prompt_name": "q"}), "no prompt"),
        (_rewrite("modules.json", [{"type": "a.Transformer", "path": 1}]), "not a list of modules"),
        (lambda path: (path / "modules.json").write_text("[" * 99999), "not JSON"),
    ],
)
def test_damaged_files(tmp_path: Path, damage: Damage, message: str) -> None:
    write_checkpoint(tmp_path / "m", pooling="mean")
    damage(tmp_path / "m")
    with pytest.raises(FormatError, match=message):
        read_checkpoint(tmp_path / "m")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    name = "encoder.layer.1.output.dense.weight"
    weights = weights_of(CONFIG)
    wrong = {**weights, name: weights[name].T.copy()}
    missing = {key: value for key, value in weights.items() if key != name}
    whole = {**weights, name: weights[name].astype(np.int32)}
    for given, message in (
        (wrong, r"of shape \[40, 24\], expected \[24, 40\]"), (missing, f"{name} is missing"),
        (whole, "of type int32"),
    ):  # fmt: skip
        write_checkpoint(tmp_path / "m", weights=given)
        with pytest.raises(FormatError, match=message):
            read_checkpoint(tmp_path / "m")
