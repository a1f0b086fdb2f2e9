"""The terms of texts and their places: naive twins, and properties of every tokenizer."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import InvalidTextError, RowError
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon
from fastseq.text.spans import TokenSpans, string_tokens, token_spans
from fastseq.types import Texts
from tests.naive import token_spans as naive
from tests.sampling import examples

# lower-casing and folding change the lengths of many of these: in bytes, in code points, or both
ODD = "aZ9_é e\u0301ẞßİıǅ.,-'\n\u3000ﬁﬃ½²№㎏ﷺ㍿¼Ǆ😀👍🏽🇩🇪"
ODD += "猫喜ーｶﾞかガが〇한국ᄒ\u1161\u11abไน้ำქყ\U00020000\U0002f800"
texts_of = st.text(st.one_of(st.sampled_from("ab cd"), st.sampled_from(ODD)), max_size=40)

Found = list[tuple[str, list[str | None], str]]


def found(text: str, **parameters: Any) -> Found:
    """(the text of the span, its terms, its word) of each token."""
    (tokens,) = all_found([text], **parameters)
    return tokens


def all_found(texts: list[str], **parameters: Any) -> list[Found]:
    spans = token_spans(Analyzer(**parameters), Texts.from_strings(texts), words=True)
    return [tokens_of(spans, text) for text in range(len(spans.texts))]


def tokens_of(spans: TokenSpans, text: int) -> Found:
    terms = spans.terms.to_strings()
    raw = spans.texts.data[spans.texts.offsets[text] : spans.texts.offsets[text + 1]].tobytes()
    out: Found = []
    for token in range(*spans.tokens.offsets[text : text + 2].tolist()):
        start, end = int(spans.starts[token]), int(spans.ends[token])
        assert 0 <= start <= end <= len(raw)
        word = int(spans.tokens.values[token])
        first, last = spans.word_terms.offsets[word : word + 2].tolist()
        ids = spans.word_terms.values[first:last].tolist()
        own = [terms[i] if i >= 0 else None for i in ids]
        out.append((raw[start:end].decode(), own, spans.words[word]))  # between characters
    return out


# ---- the tokenizers


def twin(text: str, tokenizer: str, cjk: str, fold: bool) -> list[naive.Token]:
    if tokenizer == "word":
        return naive.words(text, cjk == "bigrams", fold)
    return (naive.visible if tokenizer == "space" else naive.characters)(text, fold)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize(
    ("tokenizer", "cjk"),
    [("word", "none"), ("word", "bigrams"), ("space", "none"), ("char", "none")],
)
def test_spans_are_those_of_the_twin(tokenizer: str, cjk: str, fold: bool) -> None:
    @settings(deadline=None, max_examples=examples(400))
    @given(texts_of)
    def check(text: str) -> None:
        spans = token_spans(
            Analyzer(tokenizer=tokenizer, cjk=cjk, fold_accents=fold), Texts.from_strings([text]),
            words=True,
        )  # fmt: skip
        byte = np.cumsum([0, *(len(character.encode()) for character in text)]).tolist()
        wanted = [(word, byte[a], byte[b]) for word, a, b in twin(text, tokenizer, cjk, fold)]
        words = [spans.words[number] for number in spans.tokens.values]
        places = zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)
        assert [(w, *p) for w, p in zip(words, places, strict=True)] == wanted

    check()


@settings(deadline=None, max_examples=examples(400))
@given(texts_of, st.sampled_from(["none", "bigrams"]), st.booleans())
def test_a_span_of_unicode_has_the_term(text: str, cjk: str, fold: bool) -> None:
    parameters = {"tokenizer": "unicode", "cjk": cjk, "fold_accents": fold}
    analyzer = Analyzer(**parameters)
    tokens = found(text, **parameters)
    assert [term for _, terms, _ in tokens for term in terms] == analyzer.tokens(text)
    for piece, (term,), word in tokens:
        assert term == word
        assert term in analyzer.tokens(piece), (piece, term)


@settings(deadline=None, max_examples=examples(200))
@given(
    texts_of,
    st.sampled_from(["unicode", "word", "space", "char"]),
    st.sampled_from(["none", "english"]),
    st.sampled_from(["none", "english"]),
    st.sampled_from([None, 2]),
)
def test_terms_and_positions_are_those_of_the_lexicon(
    text: str, tokenizer: str, stopwords: str, stemmer: str, longest: int | None
) -> None:
    analyzer = Analyzer(
        tokenizer=tokenizer, stopwords=stopwords, stemmer=stemmer, max_length=longest
    )
    text = f"The {text} runners of it were running"
    lexicon = Lexicon(analyzer, gaps=True)
    ids = lexicon.encode(Texts.from_strings([text])).values.tolist()
    terms = lexicon.terms().to_strings()
    wanted = [terms[i] if i >= 0 else None for i in ids]
    spans = token_spans(analyzer, Texts.from_strings([text]), words=True)
    assert [term for _, own, _ in tokens_of(spans, 0) for term in own] == wanted


def test_by_hand() -> None:
    assert found("Der ﬁrst ½ ｶﾞﾗｽ cafe\u0301!") == [
        ("Der", ["der"], "der"), ("ﬁrst", ["first"], "first"), ("½", ["1⁄2"], "1⁄2"),
        ("ｶﾞﾗ", ["ガラ"], "ガラ"), ("ﾗｽ", ["ラス"], "ラス"), ("cafe\u0301", ["café"], "café"),
    ]  # fmt: skip
    english = {"stopwords": "english", "stemmer": "english", "normalization": "english"}
    assert found("The Runner's dogs", **english) == [
        ("The", [None], "the"), ("Runner's", ["runner"], "runner's"), ("dogs", ["dog"], "dogs"),
    ]  # fmt: skip
    assert found("two dogs", char_ngrams=(3, 3), stopwords=("two",)) == [
        ("two", [], "two"), ("dogs", [" do", "dog", "ogs", "gs "], "dogs"),
    ]  # fmt: skip
    assert found("a b", ngrams=(2, 2)) == [("a", ["a"], "a"), ("b", ["b"], "b")]
    assert found("") == []
    assert all_found([]) == []


def test_chinese_words_have_spans_of_their_own() -> None:
    pytest.importorskip("rjieba")
    text = "我爱北京天安门, the Cats."
    tokens = found(text, cjk="words", stemmer="english", stopwords="english")
    assert tokens == [
        ("我", ["我"], "我"), ("爱", ["爱"], "爱"), ("北京", ["北京"], "北京"),
        ("天安门", ["天安门"], "天安门"), ("the", [None], "the"), ("Cats", ["cat"], "cats"),
    ]  # fmt: skip


@settings(deadline=None, max_examples=examples(200))
@given(st.text(st.sampled_from("我爱北京天安门ｶﾞ㍿ガ\U0002f800\U00020000a 1"), max_size=30))
def test_chinese_words_are_cut_between_characters(text: str) -> None:
    pytest.importorskip("rjieba")
    for tokenizer in ("unicode", "word"):
        analyzer = Analyzer(tokenizer=tokenizer, cjk="words")
        tokens = found(text, tokenizer=tokenizer, cjk="words")
        assert [term for _, terms, _ in tokens for term in terms] == analyzer.tokens(text)
        if not set(text) & set("ｶﾞ㍿\U0002f800"):
            assert [piece for piece, _, _ in tokens] == [word for _, _, word in tokens]


# ---- functions


def test_tokens_of_a_function_are_found_in_order() -> None:
    def pairs(text: str) -> list[str]:
        return [text[i : i + 2] for i in range(len(text) - 1)]

    assert [piece for piece, _, _ in found("abcd", tokenizer=pairs)] == ["ab", "bc", "cd"]
    tokens = found("Cat and CAT", tokenizer=lambda text: text.lower().split())
    assert [piece for piece, _, _ in tokens] == ["Cat", "and", "CAT"]
    made = found("é ﬁ x", tokenizer=lambda _: ["é", "fi", "none", "x"])
    assert [piece for piece, _, _ in made] == ["é", "", "", "x"]
    assert [terms for _, terms, _ in made] == [["é"], ["fi"], ["none"], ["x"]]


def test_errors_of_a_function_name_the_text() -> None:
    with pytest.raises(RowError, match=r"row 1 .* expected a list of str"):
        token_spans(
            Analyzer(tokenizer=lambda text: text.split() if text != "b" else "b"),  # type: ignore[arg-type, return-value]
            Texts.from_strings(["a", "b"]),
        )


# ---- batches


@pytest.mark.parametrize("tokenizer", ["unicode", "word", "space", "char"])
def test_a_batch_has_the_tokens_of_its_texts(tokenizer: str) -> None:
    chance = random.Random(tokenizer)
    texts = ["".join(chance.choices(ODD + "     abc", k=chance.choice([0, 1, 63, 64, 65, 300])))
             for _ in range(60)]  # fmt: skip
    texts.append("ab " * 2000 + "猫" * 1500)  # more than a chunk of the kernel
    texts.append("ﷺ㌖㍿" * 300)  # more tokens than bytes
    alone = [found(text, tokenizer=tokenizer) for text in texts]
    assert all_found(texts, tokenizer=tokenizer) == alone
    whole = Texts.from_strings(["left out", *texts])
    part = Texts(whole.data, whole.offsets[1:])
    spans = token_spans(Analyzer(tokenizer=tokenizer), part, words=True)
    assert [tokens_of(spans, i) for i in range(len(texts))] == alone


def test_text_that_is_not_utf8() -> None:
    data = np.frombuffer(bytearray("aé b".encode() + b"\xff" + b" c"), np.uint8)
    texts = Texts(data, np.array([0, 2, len(data)]))
    with pytest.raises(InvalidTextError):
        token_spans(Analyzer(), texts)
    spans = token_spans(Analyzer(on_invalid="replace"), texts, words=True)
    assert spans.texts.to_strings() == ["a\ufffd", "\ufffd b\ufffd c"]
    assert [piece for piece, _, _ in tokens_of(spans, 1)] == ["b", "c"]


def test_read_only_arrays_are_accepted() -> None:
    data = np.frombuffer(b"one two", np.uint8)
    spans = token_spans(Analyzer(), Texts(data, np.array([0, 7])), words=True)
    assert [piece for piece, _, _ in tokens_of(spans, 0)] == ["one", "two"]


# ---- strings


@settings(deadline=None, max_examples=examples(100))
@given(st.lists(texts_of, max_size=4), st.sampled_from(["unicode", "word", "char"]))
def test_tokens_of_strings_are_in_code_points(strings: list[str], tokenizer: str) -> None:
    tokens = string_tokens(Analyzer(tokenizer=tokenizer, fold_accents=True), strings)
    wanted = all_found(strings, tokenizer=tokenizer, fold_accents=True)
    shown = [
        [(string[token.start : token.end], list(token.terms)) for token in own]
        for string, own in zip(strings, tokens, strict=True)
    ]
    assert shown == [[(piece, terms) for piece, terms, _ in own] for own in wanted]


def test_a_removed_word_has_no_terms() -> None:
    (tokens,) = string_tokens(Analyzer(stopwords=("the",)), ["the cat"])
    assert [(token.terms, token.start, token.end) for token in tokens] == [
        ((), 0, 3), (("cat",), 4, 7),
    ]  # fmt: skip
