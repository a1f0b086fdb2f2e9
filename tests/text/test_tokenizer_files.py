"""Tokenizers of Hugging Face's folders, written by `tokenizers` or by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import models, normalizers, pre_tokenizers, processors

from fastseq.errors import FastseqWarning, FormatError
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import AddedToken, Specials, WordPiece
from tests.text.wordpiece_oracle import theirs

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "Café", "##s", "漢字"]
CASED = WordPiece(
    {word: id for id, word in enumerate(WORDS)}, lowercase=False, split_cjk=False, clean_text=False,
    prefix="##", longest=50,
    added=[AddedToken("[MASK]", 4, lstrip=True), AddedToken("<x>", 9, single_word=True)],
)  # fmt: skip


def saved(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """The content of the tokenizer.json that theirs writes."""
    tokenizer.save(str(folder / "tokenizer.json"))
    content: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    return content


def test_tokenizer_json(tmp_path: Path) -> None:
    one = theirs(CASED)
    one.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    one.enable_truncation(3)
    one.enable_padding(length=8)
    saved(tmp_path, one)
    found = read_tokenizer(tmp_path)
    assert found.vocabulary == CASED.vocabulary
    assert found.options == CASED.options
    assert found.encode(["Cafés <x> cafe cafe cafe"]).values.tolist() == [6, 7, 9, 5, 5, 5]


def test_template_of_special_tokens(tmp_path: Path) -> None:
    one = theirs(CASED)
    one.post_processor = processors.TemplateProcessing(
        "cafe:0 $A:0 Café:0", "cafe:0 $A:0 Café:0 $B:1 Café:1", [("cafe", 5), ("Café", 6)]
    )
    saved(tmp_path, one)
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": {"content": "##s"}}')
    assert read_tokenizer(str(tmp_path)).specials == Specials("cafe", "Café", "[PAD]", "##s")
    one.post_processor = processors.TemplateProcessing("$A cafe", "$A $B:1", [("cafe", 5)])
    saved(tmp_path, one)
    with pytest.raises(FormatError, match=r"tokenizer.json: its post_processor \('TemplatePro"):
        read_tokenizer(tmp_path)


def test_vocabulary_and_configuration(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*WORDS, "\u2028", ""]).encode())
    plain = read_tokenizer(tmp_path)
    assert plain.vocabulary == {word: id for id, word in enumerate([*WORDS, "\u2028"])}
    assert plain.options == WordPiece.from_vocabulary(WORDS).options
    config: dict[str, Any] = {
        "do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False,
        "tokenizer_class": "DistilBertTokenizerFast", "unk_token": "cafe", "mask_token": None,
        "added_tokens_decoder": {"12": {"content": "<x>", "special": True, "rstrip": True}},
    }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = read_tokenizer(tmp_path)
    added = {token.content: token for token in found.added}
    assert not found.lowercase
    assert found.strip_accents
    assert not found.split_cjk
    assert found.unknown == "cafe"
    assert added["<x>"] == AddedToken("<x>", 12, rstrip=True)
    assert added["[MASK]"].id == 4
    for wrong, message in (
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "its tokenizer_class is 'BertJapan"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize: false and never_split"),
        ({"never_split": ["a"]}, "do_basic_tokenize: false and never_split"),
        ({"do_lower_case": "yes"}, "do_lower_case is 'yes'; expected bool"),
        ({"strip_accents": 1}, "strip_accents is 1; expected bool or null"),
        ({"unk_token": "nothing"}, "vocabulary has no 'nothing', the unknown token"),
        ({"added_tokens_decoder": {"x": {}}}, "damaged: an added token 'x'"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(FormatError, match=message):
            read_tokenizer(tmp_path)


def test_configuration_is_followed(tmp_path: Path) -> None:
    """As transformers follows it: where the two files differ, with a warning."""
    saved(tmp_path, theirs(CASED))
    config = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.warns(FastseqWarning, match="do_lower_case: True, unlike tokenizer.json"):
        assert read_tokenizer(tmp_path).lowercase
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert not read_tokenizer(tmp_path).lowercase


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("model", models.BPE(), "its model is 'BPE'; expected WordPiece"),
        ("model", models.Unigram(), "its model is 'Unigram'"),
        ("normalizer", None, "its normalizer is None; expected BertNormalizer"),
        ("normalizer", normalizers.NFKC(), "its normalizer is 'NFKC'"),
        (
            "normalizer",
            normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer()]),
            "its normalizer is 'Sequence of NFKC, BertNormalizer'",
        ),
        ("pre_tokenizer", pre_tokenizers.Whitespace(), "its pre_tokenizer is 'Whitespace'"),
        ("post_processor", processors.ByteLevel(), "its post_processor ('ByteLevel') is not"),
    ],
)
def test_other_tokenizers(tmp_path: Path, part: str, value: Any, message: str) -> None:
    one = theirs(CASED)
    setattr(one, part, value)
    saved(tmp_path, one)
    with pytest.raises(FormatError) as raised:
        read_tokenizer(tmp_path)
    assert message in str(raised.value)


def test_sequences_of_one(tmp_path: Path) -> None:
    one = theirs(CASED)
    one.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer()])
    one.normalizer = normalizers.Sequence([normalizers.BertNormalizer(lowercase=True)])
    saved(tmp_path, one)
    assert read_tokenizer(tmp_path).lowercase


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"added_tokens": [{"content": "x", "id": 1, "normalized": True}]}, "'x' is found in norm"),
        ({"added_tokens": [{"content": "x", "id": "1"}]}, "id is '1'; expected int"),
        ({"added_tokens": [{"id": 1}]}, "content is None; expected str"),
        ({"added_tokens": ["x"]}, "an added token is 'x'"),
        ({"added_tokens": {}}, "added_tokens is {}; expected list"),
        ({"model": {"type": "WordPiece", "vocab": []}}, "vocab is []; expected dict"),
        ({"model": {"type": "WordPiece", "vocab": {"[UNK]": "0"}}}, "is not a number"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "no '[UNK]', the unknown token"),
        ({"normalizer": {"type": "BertNormalizer", "lowercase": 1}}, "lowercase of its normalizer"),
        ({"post_processor": {"type": "BertProcessing"}}, "its post_processor ('BertProcessing')"),
        ({"model": 3}, "its model is 3"),
    ],
)
def test_damaged_files(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    content = saved(tmp_path, theirs(CASED))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | changed))
    with pytest.raises(FormatError) as raised:
        read_tokenizer(tmp_path)
    assert message in str(raised.value)


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has neither tokenizer\.json nor vocab\.txt"):
        read_tokenizer(tmp_path)
    for damaged in (b"{", b"[]", b"\xff"):
        (tmp_path / "tokenizer.json").write_bytes(damaged)
        with pytest.raises(FormatError, match=r"tokenizer\.json: (damaged|expected an object)"):
            read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\n")
    with pytest.raises(FormatError, match=r"vocab\.txt: damaged"):
        read_tokenizer(tmp_path)
