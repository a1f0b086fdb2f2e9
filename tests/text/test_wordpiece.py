"""BERT's tokenizer against Hugging Face's `tokenizers`, and examples by hand.

tests/text/wordpiece_oracle.py compares a million texts and all code points.
"""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tokenizers import __version__ as tokenizers_version
from tokenizers import processors

from fastseq.errors import InvalidTextError, SettingsError
from fastseq.text.wordpiece import AddedToken, Specials, WordPiece, _stored
from fastseq.threads import Team
from fastseq.types import Texts
from tests.sampling import ALL, some
from tests.text.wordpiece_oracle import (
    OPTIONS,
    added_tokens,
    code_point_texts,
    code_point_vocabulary,
    first_difference,
    random_texts,
    theirs,
)

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "##a", "the", "cafe",
    ",", "!", "it", "'", "s", "漢", "字", "##un", "b", "##c", "a",
]  # fmt: skip
LETTERS = {word: id for id, word in enumerate(code_point_vocabulary())}


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return WordPiece.from_vocabulary(WORDS)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    words = ["the", "und", "##ing", "[MASK]", "naïve", "ſ", "İstanbul", "x"]
    return list(random_texts(np.random.default_rng(7), 6_000 if ALL else 500, words))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unaffable", "un ##aff ##able"),
        ("UnAffable, the CAFÉ!", "un ##aff ##able , the cafe !"),
        ("it's", "it ' s"),
        ("unknown the", "[UNK] the"),  # "##known" has no pieces
        ("漢字the", "漢 字 the"),
        ("b\u0000c\u200b b\u000bc", "b ##c b ##c"),  # control characters are removed
        ("a [MASK]b[SEP][sep]", "a [MASK] b [SEP] [UNK] [UNK] [UNK]"),
        ("a" * 100, "a" + " ##a" * 99),
        ("a" * 101, "[UNK]"),
        ("á" * 100, "a" + " ##a" * 99),
        ("á" * 101, "[UNK]"),
        (" \t\u3000", ""),
        ("", ""),
    ],
)
def test_examples(tokenizer: WordPiece, text: str, expected: str) -> None:
    assert tokenizer.words(tokenizer.encode([text]).values) == expected.split()


@pytest.mark.parametrize("option", some(OPTIONS, 4, "wordpiece"))
def test_random_texts_match_tokenizers(option: dict[str, bool], texts: list[str]) -> None:
    """Ids and spans, with a vocabulary of single letters, in which nothing is unknown."""
    for added in ([], added_tokens(LETTERS)):
        one = WordPiece(LETTERS, added=added, **option)
        assert first_difference(one, theirs(one), texts) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u302e\u1bf2", "a\u1bf2\u302e"),  # of the classes 224 and 9
        ("a\u302e\u0301\u1bf2", "a\u1bf2\u302e"),  # the acute accent, of class 230, is removed
        ("a\u302e\u0900\u1bf2", "a\u302e\u1bf2"),  # so is U+0900, but it is a starter
        ("\U0001d15e\u1bf2", "\U0001d157\u1bf2\U0001d165"),  # decomposed, class 216
    ],
)
def test_order_of_marks(text: str, expected: str) -> None:
    one = WordPiece(LETTERS)
    found = [word.removeprefix("##") for word in one.words(one.encode([text]).values)]
    assert "".join(found) == expected
    assert theirs(one).normalizer.normalize_str(text) == expected


def test_a_difference_is_found(texts: list[str]) -> None:
    reference = theirs(WordPiece(LETTERS, strip_accents=False))
    assert first_difference(WordPiece(LETTERS), reference, texts) is not None


@pytest.mark.parametrize("option", some([*OPTIONS[:3], {"longest": 2}], 2, "code points"))
def test_code_points_match_tokenizers(option: dict[str, Any]) -> None:
    one = WordPiece(LETTERS, **option)
    codes = range(0x110000) if ALL else [*range(0x3400), *range(0xA000, 0x110000, 97)]
    assert first_difference(one, theirs(one), code_point_texts(codes)) is None


def test_vocabularies_match_tokenizers() -> None:
    """Random pieces of a few letters, so that the longest match is not always the best one."""
    rng = np.random.default_rng(3)
    pieces = ["".join(rng.choice(list("abé漢"), rng.integers(1, 5))) for _ in range(60)]
    texts = ["".join(rng.choice(list("aabbé漢 "), rng.integers(0, 40))) for _ in range(2000)]
    for prefix in ("##", "", "ab", "@"):
        inside = [prefix + piece for piece in pieces[20:]]
        words = dict.fromkeys(["?", *pieces[:30], *inside, "", prefix, "é" * 300])
        one = WordPiece(
            {word: 3 * id for id, word in enumerate(words)}, strip_accents=False, split_cjk=False,
            unknown="?", prefix=prefix, longest=12,
        )  # fmt: skip
        assert first_difference(one, theirs(one), texts) is None


def test_tables_are_those_of_tokenizers() -> None:
    """With another version, tools/make_wordpiece_tables.py has to be run again."""
    assert tokenizers_version == _stored()["version"].item()


def test_threads_and_slices_change_nothing(tokenizer: WordPiece) -> None:
    rng = np.random.default_rng(5)
    strings = [*random_texts(rng, 300, WORDS), "", "café " * 600_000, ""]
    whole = tokenizer.encode_spans(strings, Team(3))
    for i in range(len(strings)):
        one = tokenizer.encode_spans([strings[i]])
        row = slice(whole.tokens.offsets[i], whole.tokens.offsets[i + 1])
        assert np.array_equal(whole.tokens.values[row], one.tokens.values)
        assert np.array_equal(whole.starts[row], one.starts)
        assert np.array_equal(whole.stops[row], one.stops)
    assert whole.tokens.values.dtype == np.int32
    assert whole.tokens.offsets.dtype == np.int64


def test_views_of_arrow(tokenizer: WordPiece) -> None:
    """Texts whose offsets do not begin at 0, in arrays that cannot be written."""
    strings = ["café", "the", "", "unaffable a"]
    every = Texts.from_strings(["the É", *strings, "the"])
    data, offsets = every.data.copy(), every.offsets.copy()
    data.flags.writeable = offsets.flags.writeable = False
    for part in (Texts(every.data, every.offsets[1:6]), Texts(data, offsets[1:6])):
        found, expected = tokenizer.encode_spans(part), tokenizer.encode_spans(strings)
        assert np.array_equal(found.tokens.values, expected.tokens.values)
        assert np.array_equal(found.starts, expected.starts)
    assert expected.starts.tolist() == [0, 0, 0, 2, 5, 10]
    assert expected.stops.tolist() == [5, 3, 2, 5, 9, 11]
    assert tokenizer.encode_spans(strings, code_points=True).stops.tolist() == [4, 3, 2, 5, 9, 11]
    for nothing in ([], [""], ["", " "]):
        tokens = tokenizer.encode(nothing)
        assert tokens.values.tolist() == []
        assert tokens.offsets.tolist() == [0] * (len(nothing) + 1)


def test_invalid_text(tokenizer: WordPiece) -> None:
    data = np.frombuffer(bytearray(b"the a\xff the"), np.uint8)
    texts = Texts(data, np.array([0, 3, 6, 10]))
    with pytest.raises(InvalidTextError, match="text 1 is not valid UTF-8"):
        tokenizer.encode(texts)
    found = tokenizer.encode(texts, on_invalid="replace")
    assert tokenizer.words(found.values) == ["the", "a", "the"]
    with pytest.raises(SettingsError, match="on_invalid must be"):
        tokenizer.encode(texts, on_invalid="ignore")


@pytest.mark.parametrize("pairs", [False, True])
def test_sequences_match_tokenizers(tokenizer: WordPiece, pairs: bool) -> None:
    reference = theirs(tokenizer)
    reference.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    lengths = [(a, b) for a in range(8) for b in range(8)]
    first = ["the " * a for a, _ in lengths]
    second = ["a, " * b for _, b in lengths] if pairs else None
    inputs: Any = list(zip(first, second, strict=True)) if second is not None else first
    for length in (None, *range(4, 22, 3), 5):
        if length is not None:
            reference.enable_truncation(length, strategy="longest_first")
        found = tokenizer.encode_pairs(first, second, length)
        rows = [slice(a, b) for a, b in pairwise(found.offsets.tolist())]
        expected = reference.encode_batch(inputs)
        assert [found.ids[row].tolist() for row in rows] == [e.ids for e in expected]
        assert [found.types[row].tolist() for row in rows] == [e.type_ids for e in expected]
        cut = [bool(e.overflowing) for e in expected]
        assert found.truncated.tolist() == cut
        assert found.truncated_count == sum(cut) == int(found.truncated.sum())
        assert found.ids.dtype == found.types.dtype == np.int32
        assert len(found.ids) == found.offsets[-1]
        reference.no_truncation()


def test_sequences_of_bad_settings(tokenizer: WordPiece) -> None:
    with pytest.raises(SettingsError, match="length must be a whole number of at least 4"):
        tokenizer.encode_pairs(["a"], ["b"], 3)
    with pytest.raises(SettingsError, match="2 first and 1 second texts"):
        tokenizer.encode_pairs(["a", "b"], ["b"])
    bare = WordPiece({"[UNK]": 0, "[CLS]": 1})
    with pytest.raises(SettingsError, match=r"the vocabulary has no '\[SEP\]'"):
        bare.encode_pairs(["a"])
    other = WordPiece({"[UNK]": 0, "<s>": 1}, specials=Specials("<s>", "<s>"))
    assert other.encode_pairs(["", "a"]).ids.tolist() == [1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": {"a": 0}}, "no '[UNK]', the unknown token"),
        ({"vocabulary": {"[UNK]": 0, "a": -1}}, "an id of the vocabulary must be"),
        ({"vocabulary": {"[UNK]": 0, "\ud800": 1}}, "is not valid Unicode"),
        ({"added": [AddedToken("", 1)]}, "an added token is empty"),
        ({"added": [AddedToken("x", 1 << 31)]}, "an id of the vocabulary must be"),
        ({"longest": 0}, "longest must be"),
    ],
)
def test_bad_vocabularies(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        WordPiece(**({"vocabulary": {"[UNK]": 0}} | arguments))
    assert message in str(raised.value)


def test_a_tokenizer_is_its_vocabulary(tokenizer: WordPiece) -> None:
    assert len(tokenizer) == len(WORDS)
    assert tokenizer.id_of("cafe") == WORDS.index("cafe")
    assert tokenizer.id_of("[MASK]") == 4
    assert tokenizer.id_of("nothing") is None
    assert tokenizer.words([5, 99]) == ["un", "[UNK]"]
    one = WordPiece(tokenizer.vocabulary, lowercase=False, added=[AddedToken("<x>", 40)])
    assert len(one) == 41
    assert one.id_of("<x>") == 40
    copy = pickle.loads(pickle.dumps(one))
    assert copy.options == one.options
    assert copy.encode(["the<x> The"]).values.tolist() == [9, 40, 1]
    assert WordPiece.from_vocabulary([*WORDS, "the"]).encode(["the"]).values.tolist() == [22]


def test_the_longest_text_needs_little_memory(tokenizer: WordPiece) -> None:
    """A word of a megabyte is unknown, whatever it consists of."""
    for letter in ("a", "é", "\u302e", "\U0001d165\U0001d16d"):
        assert tokenizer.encode([letter * (1 << 18) + " the"]).values.tolist() == [1, 9]
    assert tokenizer.encode(["漢" * 1000]).values.tolist() == [16] * 1000
