"""The sizes and settings of a BERT encoder, as config.json of a checkpoint has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastseq.errors import FormatError, quoted
from fastseq.nn.layers import GELU_FORMS

# {setting of config.json: the attribute of BertConfig}
_SIZES = {
    "vocab_size": "words", "hidden_size": "hidden", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "intermediate",
    "max_position_embeddings": "positions", "type_vocab_size": "types",
}  # fmt: skip
_RATES = {
    "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout"
}  # fmt: skip
_TYPE = "bert"
_PADDING = {"roberta": 1, "xlm-roberta": 1}  # types whose positions begin after that of padding
_MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Sizes of an encoder (Devlin et al. 2019, "BERT", section 3), with BERT-base's as defaults.

    Attributes
    ----------
    words, positions, types : rows of the embedding tables of tokens, positions and segments
    hidden : size of a token's vector (H), a multiple of `heads`
    layers, heads : transformer layers, and attention heads of each
    intermediate : size of the hidden layer of a feed-forward network
    activation : of it: "gelu" (by erf), or "gelu_new" or "gelu_pytorch_tanh" (by tanh)
    dropout, attention_dropout : rates while training
    epsilon : what layer normalisation adds to the variance
    initial : standard deviation of the initial values
    kind : model_type: "bert", "roberta" or "xlm-roberta"
    skipped : rows of a checkpoint's table of positions before that of a first token
    """

    words: int = 30522
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    positions: int = 512
    types: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    epsilon: float = 1e-12
    initial: float = 0.02
    kind: str = _TYPE
    skipped: int = 0

    @property
    def is_tanh(self) -> bool:
        """Whether the activation is the approximation by tanh."""
        return GELU_FORMS[self.activation]

    @classmethod
    def from_dict(cls, content: Any, where: str) -> BertConfig:
        """The settings of a config.json, read from `where`.

        Raises FormatError, which names the setting, where one is missing or invalid, and for what
        is not implemented: another model type, activation, or kind of position embeddings.
        """
        if not isinstance(content, Mapping):
            raise FormatError(f"{where}: not the settings of a model")
        found = content.get("model_type", _TYPE)
        if found != _TYPE and (not isinstance(found, str) or found not in _PADDING):
            others = ", ".join(map(repr, _PADDING))
            raise FormatError(
                f"{where}: a model of type {quoted(found)}, expected {_TYPE!r}, {others}"
            )
        skipped = 0
        if found != _TYPE:
            padding = content.get("pad_token_id", _PADDING[found])
            if type(padding) is not int or not 0 <= padding < 1 << 31:
                raise FormatError(f"{where}: pad_token_id is {quoted(padding)}, expected an id")
            skipped = padding + 1
        sizes = {own: _size(content, name, where) for name, own in _SIZES.items()}
        sizes["positions"] -= skipped
        if sizes["positions"] < 1:
            raise FormatError(
                f"{where}: max_position_embeddings is {sizes['positions'] + skipped}, expected "
                f"more than {skipped}"
            )
        if sizes["layers"] > _MOST_LAYERS:
            raise FormatError(f"{where}: num_hidden_layers is {sizes['layers']:,}")
        if sizes["hidden"] % sizes["heads"]:
            raise FormatError(
                f"{where}: hidden_size is {sizes['hidden']}, expected a multiple of "
                f"num_attention_heads, {sizes['heads']}"
            )
        activation = content.get("hidden_act", cls().activation)
        if not isinstance(activation, str) or activation not in GELU_FORMS:
            raise FormatError(
                f"{where}: the activation {quoted(activation)} is not supported, only "
                f"{', '.join(GELU_FORMS)}"
            )
        kind = content.get("position_embedding_type", "absolute")
        if kind != "absolute":
            raise FormatError(
                f"{where}: position embeddings of type {quoted(kind)} are not supported, only "
                "absolute ones"
            )
        for name in ("is_decoder", "add_cross_attention"):
            if content.get(name):
                raise FormatError(f"{where}: {name} is set: a decoder, expected an encoder")
        rates: dict[str, Any] = {
            own: _number(content, name, where, getattr(cls(), own), below=1)
            for name, own in _RATES.items()
        }
        return cls(
            **sizes,
            **rates,
            activation=activation,
            epsilon=_number(content, "layer_norm_eps", where, cls().epsilon, below=1),
            initial=_number(content, "initializer_range", where, cls().initial, below=10),
            kind=found,
            skipped=skipped,
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings of a config.json."""
        found = {name: getattr(self, own) for name, own in (_SIZES | _RATES).items()}
        if self.skipped:
            found["pad_token_id"] = self.skipped - 1
            found["max_position_embeddings"] += self.skipped
        return {
            "model_type": self.kind,
            **found,
            "hidden_act": self.activation,
            "layer_norm_eps": self.epsilon,
            "initializer_range": self.initial,
            "position_embedding_type": "absolute",
        }


def _size(content: Mapping[str, Any], name: str, where: str) -> int:
    value = content.get(name)
    if type(value) is not int or not 1 <= value < 1 << 31:
        shown = "missing" if value is None else quoted(value)
        raise FormatError(f"{where}: {name} is {shown}, expected a whole number from 1")
    return value


def _number(
    content: Mapping[str, Any], name: str, where: str, default: float, below: float
) -> float:
    value = content.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
        raise FormatError(
            f"{where}: {name} is {quoted(value)}, expected a number from 0 to {below}"
        )
    return float(value)
