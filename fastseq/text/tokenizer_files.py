"""Tokenizers in the files of Hugging Face's libraries."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fastseq.errors import FormatError, SettingsError, quoted, warn
from fastseq.text.wordpiece import UNKNOWN, AddedToken, Specials, WordPiece

# classes of transformers whose vocab.txt is BERT's
_LONGEST_ADDED = 1000  # characters
_CLASSES = ("Bert", "ConvBert", "DistilBert", "Electra", "Lxmert", "MobileBert", "SqueezeBert")
_ROLES = {"begin": "cls_token", "end": "sep_token", "padding": "pad_token", "mask": "mask_token"}
_NORMALIZER = {  # the parameter of each member of a BertNormalizer
    "clean_text": "clean_text",
    "handle_chinese_chars": "split_cjk",
    "strip_accents": "strip_accents",
    "lowercase": "lowercase",
}
_CONFIG = {  # and of tokenizer_config.json
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "split_cjk",
}


def read_tokenizer(folder: str | os.PathLike[str]) -> WordPiece:
    """BERT's tokenizer from a Hugging Face folder: tokenizer.json, or else vocab.txt with
    tokenizer_config.json, if there is one.

    Padding and truncation of tokenizer.json are ignored; the special tokens of
    tokenizer_config.json and special_tokens_map.json are used where these files exist.

    Raises FormatError where the folder has neither file, where a file is damaged, and for any other
    tokenizer than BERT's: another model, normaliser, pre-tokenizer or template of special tokens,
    or added tokens that are found in normalised text; OSError where a file cannot be read.
    """
    root = Path(folder)
    config = _json(root / "special_tokens_map.json") | _json(root / "tokenizer_config.json")
    names = {role: _content(config.get(key)) for role, key in _ROLES.items()}
    unknown = _content(config.get("unk_token")) or UNKNOWN
    path = root / "tokenizer.json"
    try:
        if path.exists():
            return _from_json(path, _json(path), config, names)
        path = root / "vocab.txt"
        if path.exists():
            return _from_vocabulary(path, config, names, unknown)
    except SettingsError as error:
        raise FormatError(f"{path}: {error}") from None
    raise FormatError(f"{root}: has neither tokenizer.json nor vocab.txt")


def _json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; without members where there is no file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: damaged: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: expected an object")
    return content


def _content(token: Any) -> str | None:
    """The text of a special token, which is written as it is or as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _is_bert(tokenizer_class: Any) -> bool:
    """Whether a class of transformers is BERT's tokenizer."""
    return str(tokenizer_class).removesuffix("Fast").removesuffix("Tokenizer") in _CLASSES


def _specials(names: dict[str, str | None]) -> Specials:
    return Specials(**{role: name for role, name in names.items() if name})


# ---- tokenizer.json


def _part(path: Path, content: dict[str, Any], name: str, expected: str) -> dict[str, Any]:
    """The member `name` of tokenizer.json, which must be of one type; a sequence of one is it."""
    part = content.get(name)
    if isinstance(part, dict) and part.get("type") == "Sequence":
        steps = part.get(f"{name}s", part.get("pretokenizers"))
        if isinstance(steps, list) and len(steps) == 1:
            part = steps[0]
    kind = part.get("type") if isinstance(part, dict) else part
    if kind == "Sequence":
        listed = steps if isinstance(steps, list) else [steps]
        kinds = (step.get("type") if isinstance(step, dict) else step for step in listed)
        kind = "Sequence of " + ", ".join(map(str, kinds))
    if kind != expected:
        raise FormatError(f"{path}: its {name} is {quoted(kind)}; expected {expected}, as of BERT")
    assert isinstance(part, dict)
    return part


def _typed(path: Path, values: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = values.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise FormatError(f"{path}: {name} is {quoted(value)}; expected {kind.__name__}")
    return value


def _overridden(path: Path, steps: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The steps that tokenizer_config.json has otherwise; transformers' classes follow it."""
    found: dict[str, Any] = {}
    if _is_bert(config.get("tokenizer_class")):
        for name, parameter in _CONFIG.items():
            if isinstance(value := config.get(name), bool) and value != steps[parameter]:
                found[parameter] = value
                warn(
                    f"{path.parent}: tokenizer_config.json has {name}: {value}, unlike "
                    f"{path.name}; it is followed, as transformers does"
                )
    return found


def _from_json(
    path: Path, content: dict[str, Any], config: dict[str, Any], names: dict[str, str | None]
) -> WordPiece:
    model = content.get("model")
    if isinstance(model, dict) and "type" not in model and "max_input_chars_per_word" in model:
        content = content | {"model": model | {"type": "WordPiece"}}  # as older versions wrote it
    model = _part(path, content, "model", "WordPiece")
    normalizer = _part(path, content, "normalizer", "BertNormalizer")
    _part(path, content, "pre_tokenizer", "BertPreTokenizer")
    steps: dict[str, Any] = {
        parameter: normalizer.get(name, None if name == "strip_accents" else True)
        for name, parameter in _NORMALIZER.items()
    }
    for name, value in steps.items():
        if not isinstance(value, bool) and (value is not None or name != "strip_accents"):
            raise FormatError(f"{path}: {name} of its normalizer is {quoted(value)}")
    steps |= _overridden(path, steps, config)
    vocabulary = _typed(path, model, "vocab", dict, None)
    if not all(isinstance(id, int) for id in vocabulary.values()):
        raise FormatError(f"{path}: an id of its vocabulary is not a number")
    begin, end = _template(path, content.get("post_processor"))
    names = names | {"begin": begin or names["begin"], "end": end or names["end"]}
    return WordPiece(
        vocabulary,
        **steps,
        unknown=_typed(path, model, "unk_token", str, UNKNOWN),
        prefix=_typed(path, model, "continuing_subword_prefix", str, "##"),
        longest=_typed(path, model, "max_input_chars_per_word", int, 100),
        added=[_added(path, token) for token in _typed(path, content, "added_tokens", list, [])],
        specials=_specials(names),
    )


def _added(path: Path, token: Any) -> AddedToken:
    """An element of added_tokens."""
    if not isinstance(token, dict):
        raise FormatError(f"{path}: an added token is {quoted(token)}; expected an object")
    content = _typed(path, token, "content", str, None)
    if len(content) > _LONGEST_ADDED:
        raise FormatError(f"{path}: an added token of {len(content):,} characters")
    if token.get("normalized", False):
        raise FormatError(
            f"{path}: the added token {quoted(content)} is found in normalised text "
            "(normalized: true), which is not supported"
        )
    flags = {
        name: _typed(path, token, name, bool, False) for name in ("single_word", "lstrip", "rstrip")
    }
    return AddedToken(content, _typed(path, token, "id", int, None), **flags)


def _template(path: Path, processor: Any) -> tuple[str | None, str | None]:
    """The tokens that a post-processor of BERT puts before and after a text, None where there is no
    post-processor."""
    if processor is None:
        return None, None
    kind = processor.get("type") if isinstance(processor, dict) else processor
    try:
        if kind == "BertProcessing":
            return str(processor["cls"][0]), str(processor["sep"][0])
        if kind == "TemplateProcessing":
            single, pair = (
                [
                    (name, part.get("id"), part.get("type_id"))
                    for item in processor[form]
                    for name, part in item.items()
                ]
                for form in ("single", "pair")
            )
            (_, begin, _), _, (_, end, _) = single
            expected = [
                ("SpecialToken", begin, 0), ("Sequence", "A", 0), ("SpecialToken", end, 0),
                ("Sequence", "B", 1), ("SpecialToken", end, 1),
            ]  # fmt: skip
            if single == expected[:3] and pair == expected:
                return str(begin), str(end)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError):
        pass
    raise FormatError(
        f"{path}: its post_processor ({quoted(kind)}) is not [CLS] A [SEP] B [SEP], as of BERT"
    )


# ---- vocab.txt


def _from_vocabulary(
    path: Path, config: dict[str, Any], names: dict[str, str | None], unknown: str
) -> WordPiece:
    where = path.with_name("tokenizer_config.json")
    kind = _typed(where, config, "tokenizer_class", str, "BertTokenizer")
    if not _is_bert(kind):
        raise FormatError(f"{where}: its tokenizer_class is {quoted(kind)}, not that of BERT")
    if not _typed(where, config, "do_basic_tokenize", bool, True) or config.get("never_split"):
        raise FormatError(f"{where}: do_basic_tokenize: false and never_split are not supported")
    strip = config.get("strip_accents")
    if not isinstance(strip, bool | None):
        raise FormatError(f"{where}: strip_accents is {quoted(strip)}; expected bool or null")
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: damaged: {error}") from None
    if lines[-1] == "":
        del lines[-1]
    vocabulary = {line.rstrip("\r"): id for id, line in enumerate(lines)}
    specials = _specials(names)
    added = {}
    for token in (unknown, specials.begin, specials.end, specials.padding, specials.mask):
        if token in vocabulary:
            added[token] = AddedToken(token, vocabulary[token])
    for id, token in _typed(where, config, "added_tokens_decoder", dict, {}).items():
        if not isinstance(token, dict) or not str(id).isdecimal():
            raise FormatError(f"{where}: damaged: an added token {quoted(id)}")
        one = _added(where, token | {"id": int(id)})
        added[one.content] = one
    return WordPiece(
        vocabulary,
        lowercase=_typed(where, config, "do_lower_case", bool, True),
        strip_accents=strip,
        split_cjk=_typed(where, config, "tokenize_chinese_chars", bool, True),
        unknown=unknown,
        added=list(added.values()),
        specials=specials,
    )


# ---- writing


def tokenizer_files(tokenizer: WordPiece, max_length: int) -> dict[str, dict[str, Any]]:
    """{file name: its JSON} of a folder from which `read_tokenizer` and transformers read the same
    tokenizer; `max_length` are the tokens of a text at most."""
    names = {key: getattr(tokenizer.specials, role) for role, key in _ROLES.items()}
    names["unk_token"] = tokenizer.unknown
    steps = {name: getattr(tokenizer, own) for name, own in _NORMALIZER.items()}
    begin, end = tokenizer.specials.begin, tokenizer.specials.end
    added = [
        {
            "id": token.id, "content": token.content, "single_word": token.single_word,
            "lstrip": token.lstrip, "rstrip": token.rstrip, "normalized": False,
            "special": token.content in names.values(),
        }
        for token in sorted(tokenizer.added, key=lambda token: token.id)
    ]  # fmt: skip
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", **steps},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _processor(tokenizer, begin, end),
        "decoder": {"type": "WordPiece", "prefix": tokenizer.prefix, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.unknown,
            "continuing_subword_prefix": tokenizer.prefix,
            "max_input_chars_per_word": tokenizer.longest,
            "vocab": dict(sorted(tokenizer.vocabulary.items(), key=lambda each: each[1])),
        },
    }
    config = {name: getattr(tokenizer, own) for name, own in _CONFIG.items()}
    more = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length}
    return {"tokenizer.json": content, "tokenizer_config.json": {**config, **names, **more}}


def _processor(tokenizer: WordPiece, begin: str, end: str) -> dict[str, Any]:
    """The template [CLS] A [SEP] B [SEP]."""

    def special(token: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [special(begin, 0), text("A", 0), special(end, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special(end, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [tokenizer.id_of(token)], "tokens": [token]}
            for token in (begin, end)
        },
    }
