"""Checkpoints of BERT in Hugging Face's format: a folder of config.json, model.safetensors and a
tokenizer, and with the modules of sentence-transformers, how a text's vector is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError, quoted, warn
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.parameters import POSITIONS, check_shapes, encoder_shapes, plain_names
from fastseq.settings import whole
from fastseq.store.files import reason
from fastseq.store.folder import MANIFEST
from fastseq.store.weights import map_weights
from fastseq.text.library_tokenizer import LibraryTokenizer
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import WordPiece
from fastseq.types import Float32

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
MODULES = "modules.json"
LIMITS = "sentence_bert_config.json"
TOKENIZER = "tokenizer_config.json"
PROMPTS = "config_sentence_transformers.json"
PICKLES = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")
POOLINGS = ("mean", "cls", "max")
SPECIAL = 2  # tokens around a text: [CLS] and [SEP]

_MODE = "pooling_mode_"
_MODES = {"mean": "mean", "cls": "cls", "cls_token": "cls", "max": "max"}
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_SPARSE_MODULES = ["MLMTransformer", "SpladePooling"]  # of a SparseEncoder


@dataclass(frozen=True, slots=True)
class Sentences:
    """How the vector of a text is made of those of its tokens.

    pooling    "mean", "cls" (the first token) or "max"
    normalize  whether it is divided by its Euclidean norm
    most       tokens of a text with its special ones; a longer one is truncated
    prompts    {name: what texts of this kind begin with}, such as "query"
    default_prompt  what texts begin with unless another prompt is given
    lowercases  whether texts are lower-cased before the tokenizer
    """

    pooling: str = "mean"
    normalize: bool = False
    most: int = 512
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    lowercases: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a folder holds besides its tokenizer.

    weights  of the encoder, under the names of `parameters.encoder_shapes`, float32, mapped
    others   all other arrays, of heads, as stored
    has_folder  False of a model in memory, whose `path` is a name for messages
    """

    path: Path
    config: BertConfig
    weights: Mapping[str, Float32]
    others: Mapping[str, npt.NDArray[Any]]
    sentences: Sentences
    has_folder: bool = True


def is_checkpoint(path: str | Path) -> bool:
    """Whether a folder is a checkpoint in this format."""
    return (Path(path) / CONFIG).is_file()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint.

    Raises DataError: the folder or a file is missing or cannot be read; FormatError, which names
    the file and the setting or array: not a BERT encoder, one that needs what is not implemented,
    weights that do not fit config.json or are damaged, or are stored as a pickle.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{path}: no such folder, expected a checkpoint with {CONFIG}")
    if not is_checkpoint(folder) and (folder / MANIFEST).is_file():
        raise FormatError(f"{path}: a folder of fastseq, no checkpoint: see fastseq export")
    config = BertConfig.from_dict(_read_json(folder / CONFIG), str(folder / CONFIG))
    sentences = _sentences(folder, config)
    weights_path = folder / WEIGHTS
    if not weights_path.exists():
        for name in PICKLES:
            if (folder / name).exists():
                raise FormatError(
                    f"{folder / name}: weights in this format are not read: convert them to "
                    f"{WEIGHTS}"
                )
    stored, _ = map_weights(weights_path)
    arrays = plain_names(stored)
    shapes = encoder_shapes(config)
    shapes[POSITIONS] = (config.positions + config.skipped, config.hidden)
    found = check_shapes(arrays, shapes, str(weights_path))
    weights = {name: array.astype(np.float32, copy=False) for name, array in found.items()}
    weights[POSITIONS] = weights[POSITIONS][config.skipped :]
    others = {name: array for name, array in arrays.items() if name not in shapes}
    beyond = [name for name in others if name.startswith("encoder.layer.")]
    if beyond:
        warn(f"{weights_path}: {beyond[0]} is of a layer that config.json does not have: ignored")
    return Checkpoint(folder, config, weights, others, sentences)


def tokenizer_of(checkpoint: Checkpoint) -> WordPiece | LibraryTokenizer:
    """The tokenizer of a checkpoint: BERT's, or by the library `tokenizers` that of another type.

    Raises FormatError for one that is not supported or damaged, MissingExtraError without the
    library.
    """
    if checkpoint.config.kind == "bert":
        return read_tokenizer(checkpoint.path)
    return LibraryTokenizer.load(checkpoint.path)


def check_tokenizer(
    tokenizer: WordPiece | LibraryTokenizer, config: BertConfig, path: str | Path
) -> None:
    """Raise FormatError for a tokenizer without [CLS] or [SEP], or with ids that the embeddings do
    not have."""
    for token in (tokenizer.specials.begin, tokenizer.specials.end):
        if tokenizer.id_of(token) is None:
            raise FormatError(f"{path}: the tokenizer has no {quoted(token)}")
    if len(tokenizer) > config.words:
        raise FormatError(
            f"{path}: the tokenizer has {len(tokenizer):,} tokens, the weights {config.words:,}"
        )


def limit_of(checkpoint: Checkpoint, max_length: int | None) -> int:
    """The tokens of a text with its special ones: `max_length`, or those of the checkpoint.

    Raises SettingsError for more than the model has positions, or no room for a token.
    """
    if max_length is None:
        return checkpoint.sentences.most
    limit, positions = whole("max_length", max_length, SPECIAL + 1), checkpoint.config.positions
    if limit > positions:
        raise SettingsError(f"max_length is {limit}, but the model has {positions} positions")
    return limit


def _sentences(folder: Path, config: BertConfig) -> Sentences:
    """The settings of sentence-transformers, or the defaults where there are none."""
    least = SPECIAL + 1
    if config.positions < least:
        raise FormatError(f"{folder / CONFIG}: {config.positions} positions, expected {least}")
    limits = _settings(folder / LIMITS)
    limit, source = limits.get("max_seq_length"), LIMITS
    if limit is None:  # as later versions write it; without a limit it is a huge number
        limit, source = _settings(folder / TOKENIZER).get("model_max_length"), TOKENIZER
    limit = config.positions if limit is None else limit
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < least:
        raise FormatError(
            f"{folder / source}: a limit of {quoted(limit)} tokens, expected {least} or more"
        )
    most = int(min(limit, config.positions))
    given = _settings(folder / PROMPTS)
    prompts = given.get("prompts") or {}
    if not isinstance(prompts, Mapping) or not all(map(_is_text, prompts.values())):
        raise FormatError(f"{folder / PROMPTS}: prompts are not texts by name")
    default = given.get("default_prompt_name")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise FormatError(f"{folder / PROMPTS}: there is no prompt {quoted(default)}")
    prompt = "" if default is None else prompts[default]
    lowercases = bool(limits.get("do_lower_case"))
    if not (folder / MODULES).exists():
        return Sentences("mean", False, most, prompts, prompt, lowercases)
    modules = _read_json(folder / MODULES)
    try:
        kinds = [(module["type"].rpartition(".")[2], Path(module["path"])) for module in modules]
    except (TypeError, KeyError, AttributeError):
        raise FormatError(f"{folder / MODULES}: not a list of modules") from None
    names = [kind for kind, _ in kinds]
    if names == _SPARSE_MODULES:
        _check_sparse(folder / kinds[1][1] / CONFIG)
        return Sentences("mean", False, most, prompts, prompt, lowercases)
    for kind in names:
        if kind not in _KNOWN_MODULES:
            raise FormatError(
                f"{folder / MODULES}: a module {quoted(kind)} is not supported, only "
                f"{', '.join(_KNOWN_MODULES)}"
            )
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise FormatError(
            f"{folder / MODULES}: the modules are {', '.join(names)}, expected "
            f"{', '.join(_KNOWN_MODULES)} in this order"
        )
    if kinds[0][1].parts:
        raise FormatError(f"{folder / MODULES}: weights in a subfolder are not supported")
    pooling = _pooling(folder / kinds[1][1] / CONFIG)
    return Sentences(pooling, "Normalize" in names, most, prompts, prompt, lowercases)


def _pooling(path: Path) -> str:
    given = _read_json(path)
    if not isinstance(given, Mapping):
        raise FormatError(f"{path}: not the settings of a pooling module")
    if not given.get("include_prompt", True):
        raise FormatError(f"{path}: pooling without the tokens of a prompt is not supported")
    mode = given.get("pooling_mode")  # in later versions
    if mode is None:
        chosen = [name for name, value in given.items() if name.startswith(_MODE) and value]
    else:
        chosen = [f"{_MODE}{name}" for name in (mode if isinstance(mode, list) else [mode])]
    modes = [_MODES.get(name.removeprefix(_MODE).removesuffix("_tokens")) for name in chosen]
    if len(modes) != 1 or modes[0] is None:
        raise FormatError(
            f"{path}: the pooling {' and '.join(map(str, chosen)) or 'of no mode'} is not "
            f"supported, only {', '.join(POOLINGS)}"
        )
    return modes[0]


def _check_sparse(path: Path) -> None:
    """Raise FormatError unless the pooling of a learned-sparse model is SPLADE's."""
    given = _read_json(path)
    if not isinstance(given, Mapping):
        raise FormatError(f"{path}: not the settings of a pooling module")
    for name, expected in (("pooling_strategy", "max"), ("activation_function", "relu")):
        found = given.get(name, expected)
        if found != expected:
            raise FormatError(
                f"{path}: {name} is {quoted(found)}, which is not supported, only {expected!r}"
            )


def _is_text(value: Any) -> bool:
    """Whether it is a string without lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _settings(path: Path) -> Mapping[str, Any]:
    """The object of a JSON file, without members where there is no file."""
    given = _read_json(path) if path.exists() else {}
    if not isinstance(given, Mapping):
        raise FormatError(f"{path}: not settings by name")
    return given


def _read_json(path: Path) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a checkpoint of BERT") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({reason(error)})") from error
