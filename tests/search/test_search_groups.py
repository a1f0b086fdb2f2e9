"""A query of a single Han, kana, Hangul or Thai character is found in all bigrams with it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import BM25, TFIDF, Analyzer, BoW, Hits, Index
from fastseq.search.groups import has_character_groups, lone_characters
from fastseq.search.ranking import RankingModel
from fastseq.text.splitting import splitter_of
from tests.naive import ranking
from tests.naive import text as naive_text
from tests.naive import words as naive_words
from tests.naive.character_groups import Collection, is_character
from tests.naive.commits import combine

MODELS: list[RankingModel] = [
    *(BM25(variant=name) for name in BM25.VARIANTS),
    BM25(0.9, 0.4, 1.0, "bm25l"),
    *map(TFIDF, ("ltc.lnc", "Lpn.atc", "nnc.nnn", "bnn.Lpc")),
    BoW(),
    BoW(cosine=True),
]
FEW = [BM25(), BM25(variant="bm25+"), TFIDF("Lpc.atc"), BoW()]
# of each script; a cluster of Thai is a letter with its marks
CHARACTERS = {
    "han": ["猫", "犬", "鱼", "𠀀", "〇"],
    "kana": ["か", "が", "カ", "ー", "ん"],
    "hangul": ["한", "국", "어"],
    "thai": ["ก", "ก่", "กี่", "ข", "า"],
    "khmer": ["ក", "កា", "ខ"],
}
WORD_SCRIPTS = ("han", "kana", "hangul")  # that the tokenizer `word` knows
TOKENS = {"unicode": naive_words.tokens, "word": naive_text.words_and_bigrams}


def characters_of(tokenizer: str) -> list[str]:
    return [
        character
        for script, characters in CHARACTERS.items()
        if tokenizer == "unicode" or script in WORD_SCRIPTS
        for character in characters
    ]


def built(path: Path, tokenizer: str, texts: Sequence[str], first: int = 0) -> Index:
    table = pa.table({"id": range(first, first + len(texts)), "text": texts})
    return Index.build(table, path, analyzer=Analyzer(tokenizer=tokenizer), threads=1)


def expected(collection: Collection, query: ranking.Query, model: RankingModel) -> ranking.Scores:
    if isinstance(model, BM25):
        return collection.bm25(query, model.variant, model.k1, model.b, model.delta)
    if isinstance(model, TFIDF):
        return collection.smart(query, model.smart)
    assert isinstance(model, BoW)
    return collection.smart(query, "nnc.nnc" if model.cosine else "nnn.nnn")


def assert_near(hits: Hits, q: int, scores: np.ndarray, found: np.ndarray) -> None:
    """The hits of query q are all documents found, with these scores, in their order."""
    rows = hits.rows[q][hits.rows[q] >= 0]
    given = hits.scores[q][: len(rows)].astype(np.float64)
    assert sorted(rows.tolist()) == np.flatnonzero(found).tolist()
    np.testing.assert_allclose(given, scores[rows], rtol=2e-5, atol=1e-6)
    order = list(zip((-given).tolist(), rows.tolist(), strict=True))
    assert order == sorted(order)


def assert_naive(
    index: Index, tokenizer: str, texts: Sequence[str], queries: Sequence[Any],
    models: Sequence[RankingModel] = MODELS,
) -> None:  # fmt: skip
    collection = Collection(tokenizer, [TOKENS[tokenizer](text) for text in texts])
    for model in models:
        hits = index.search(queries, k=len(texts) + 1, model=model, threads=1)
        for q, query in enumerate(queries):
            asked = query if isinstance(query, dict) else TOKENS[tokenizer](query)
            assert_near(hits, q, *expected(collection, asked, model))


def texts_of(tokenizer: str) -> st.SearchStrategy[str]:
    run = st.lists(st.sampled_from(characters_of(tokenizer)), min_size=1, max_size=6).map("".join)
    word = st.sampled_from(["cat", "tea", "x9"])
    return st.lists(run | word, max_size=5).map(" ".join)


# ---- against the naive evaluator


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(TOKENS)), st.data())
def test_characters_match_the_naive_evaluator(tokenizer: str, data: st.DataObject) -> None:
    texts = data.draw(st.lists(texts_of(tokenizer), min_size=1, max_size=10))
    characters = characters_of(tokenizer)
    more = data.draw(st.lists(texts_of(tokenizer), max_size=4))
    queries: list[Any] = [
        *characters, *more, "cat", "猫 cat 猫", "absent",
        {character: 1.5 + i for i, character in enumerate(characters[:3])},
        {characters[0]: 1.0, "cat": 2.0, "absent": 1.0},
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        index = built(Path(folder) / "index", tokenizer, texts)
        assert_naive(index, tokenizer, texts, queries, random.Random(len(texts)).sample(MODELS, 4))


@pytest.mark.parametrize("tokenizer", sorted(TOKENS))
def test_every_model(tmp_path: Path, tokenizer: str) -> None:
    texts = [
        "猫", "猫犬", "犬猫", "猫猫猫", "cat 猫 cat", "黒猫が猫を見た", "", "鱼", "猫 猫犬 犬猫",
        "한국어 국 韓国", "猫犬猫犬猫" * 20,
    ]  # fmt: skip
    queries: list[Any] = [
        "猫",
        "犬 猫",
        "猫犬",
        "猫 cat",
        "국",
        "が",
        "見",
        {"猫": 2.0, "cat": 1.0},
    ]
    index = built(tmp_path / "index", tokenizer, texts)
    assert_naive(index, tokenizer, texts, queries)


def test_frequencies_by_hand(tmp_path: Path) -> None:
    """The larger of those that it begins and that it ends, and those in which it is alone."""
    texts = ["猫犬猫鱼", "犬猫鱼猫", "猫", "猫猫猫", "猫 猫犬 猫猫", "犬"]
    index = built(tmp_path / "index", "unicode", texts)
    hits = index.search("猫", k=9, model=BoW())
    assert dict(zip(hits.ids[0], hits.scores[0].tolist(), strict=False)) == {
        0: 2, 1: 2, 2: 1, 3: 2, 4: 3
    }  # fmt: skip


def test_a_cluster_with_a_mark_is_another_character(tmp_path: Path) -> None:
    texts = ["กข", "ก่ข", "ขก", "ขก่", "ก", "ก่", "กก่"]
    index = built(tmp_path / "index", "unicode", texts)
    for query, found in (("ก", {0, 2, 4, 6}), ("ก่", {1, 3, 5, 6}), ("ข", {0, 1, 2, 3})):
        assert {*index.search(query).ids[0]} == found
    assert_naive(index, "unicode", texts, ["ก", "ก่", "ข", "ก ก่"])


@pytest.mark.parametrize(("rare", "packed"), [(0, 0), (540, 1)])
def test_large_frequencies(tmp_path: Path, rare: int, packed: int) -> None:
    lengths = [14, 15, 16, 254, 255, 256, 600]
    texts = [unit * n for unit in ("猫犬", "猫 ") for n in lengths]
    texts.append("猫犬 " * 200 + "猫 " * 60)
    texts.append(" ".join(f"x{n}" for n in range(rare)))
    index = built(tmp_path / "index", "unicode", texts)
    assert index._collection.leaves[0].segment.postings.packed == packed
    hits = index.search("猫", k=30, model=BoW())
    scores = dict(zip(hits.ids[0], hits.scores[0].tolist(), strict=False))
    assert scores == dict(enumerate([*lengths, *lengths, 260]))
    assert_naive(index, "unicode", texts, ["猫", "犬 猫", "猫 猫犬 x1"])


def test_characters_of_several_windows(tmp_path: Path) -> None:
    count = 65_536 + 300
    texts = [f"w{n % 3}" for n in range(count)]
    some = {5: "猫犬", 6: "犬猫猫", 65_535: "猫", 65_536: "x 猫犬", count - 1: "鱼猫" * 300}
    for row, text in some.items():
        texts[row] = text
    index = built(tmp_path / "index", "unicode", texts)
    hits = index.search("猫", k=10, model=BoW())
    assert dict(zip(hits.ids[0], hits.scores[0].tolist(), strict=False)) == {
        5: 1, 6: 2, 65_535: 1, 65_536: 1, count - 1: 300
    }  # fmt: skip


# ---- segments and deletions


def split(
    folder: Path, tokenizer: str, texts: Sequence[str], cuts: Sequence[int], deleted: set[int]
) -> tuple[Index, Index]:
    """An index of segments with deleted documents, and a fresh one of the others."""
    edges = [0, *sorted({*cuts} - {0, len(texts)}), len(texts)]
    parts, gone = [], []
    for first, last in pairwise(edges):
        built(folder / f"part{first}", tokenizer, texts[first:last], first)
        parts.append(folder / f"part{first}")
        gone.append([row - first for row in range(first, last) if row in deleted])
    combine(folder / "index", parts, gone)
    left = [row for row in range(len(texts)) if row not in deleted]
    table = pa.table({"id": left, "text": [texts[row] for row in left]})
    analyzer = Analyzer(tokenizer=tokenizer)
    return Index.open(folder / "index"), Index.build(table, folder / "fresh", analyzer=analyzer)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(TOKENS)), st.data())
def test_segments_give_the_results_of_one(tokenizer: str, data: st.DataObject) -> None:
    texts = data.draw(st.lists(texts_of(tokenizer), min_size=2, max_size=12))
    cuts = data.draw(st.lists(st.integers(1, len(texts) - 1), max_size=3))
    deleted = data.draw(st.sets(st.integers(0, len(texts) - 2), max_size=6))
    characters = characters_of(tokenizer)
    queries: list[Any] = [
        *characters, "cat", "猫 cat", " ".join(characters), "猫犬 猫", {"猫": -1.0, "cat": 0.5},
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        index, fresh = split(Path(folder), tokenizer, texts, cuts, deleted)
        assert_same(index, fresh, queries, FEW)
        words = [*characters, "猫犬", "cat", "absent"]
        assert index.knows(words) == fresh.knows(words)
        for query in words:
            assert index.unknown_words(query) == fresh.unknown_words(query)


def assert_same(
    index: Index, fresh: Index, queries: Sequence[Any], models: Sequence[RankingModel]
) -> None:
    """Equal ids and bits of scores, alone, together, and on any number of threads."""
    for model in models:
        for k in (1, 3, 40):
            found, other = (each.search(queries, k, model, threads=1) for each in (index, fresh))
            assert found.ids == other.ids, model
            assert found.scores.tobytes() == other.scores.tobytes(), model
            again = index.search(queries, k, model, threads=3)
            assert again.rows.tobytes() == found.rows.tobytes()
            assert again.scores.tobytes() == found.scores.tobytes()
        for q in (0, len(queries) - 1):
            alone = index.search(queries[q], 40, model)
            assert alone.rows[0].tobytes() == found.rows[q].tobytes()
            assert alone.scores[0].tobytes() == found.scores[q].tobytes()


def test_added_and_deleted_documents(tmp_path: Path) -> None:
    texts = {n: f"猫{'犬鱼'[n % 2]} w{n % 5}" if n % 3 else f"w{n % 5} 犬" for n in range(60)}
    index = built(tmp_path / "index", "unicode", [texts[n] for n in range(40)])
    queries = ["猫", "犬", "鱼 w1", "犬鱼"]
    index.search(queries)  # what is remembered is of this commit
    index.add([{"id": n, "text": texts[n]} for n in range(40, 60)])
    index.add([{"id": n, "text": "鱼犬 猫"} for n in (3, 50)])
    index.delete([*range(10, 30), 55])
    left = [*(n for n in range(60) if n not in {3, 50, 55, *range(10, 30)}), 3, 50]
    table = pa.table({"id": left, "text": ["鱼犬 猫" if n in (3, 50) else texts[n] for n in left]})
    fresh = Index.build(table, tmp_path / "fresh")
    assert_same(index, fresh, queries, MODELS)
    index.compact()
    assert_same(index, fresh, queries, MODELS)


# ---- batches


def test_batches_of_plain_and_grouped_queries(tmp_path: Path) -> None:
    """Each query has the hits that it has alone, in whatever batch."""
    chance = random.Random(5)
    characters = characters_of("unicode")
    words = [f"w{n}" for n in range(30)]
    texts = [
        " ".join([*chance.choices(words, k=4), "".join(chance.choices(characters, k=5))])
        for _ in range(300)
    ]
    index = built(tmp_path / "index", "unicode", texts)
    queries: list[Any] = [
        chance.choice([
            " ".join(chance.choices(words, k=3)), chance.choice(characters), "",
            f"{chance.choice(words)} {chance.choice(characters)}", "none",
            {chance.choice(characters): 2.0, chance.choice(words): 1.0},
        ])
        for _ in range(400)
    ]  # fmt: skip
    for model in FEW:
        hits = index.search(queries, 7, model, threads=2)
        for q in chance.sample(range(len(queries)), 60):
            alone = Index.open(tmp_path / "index").search(queries[q], 7, model)
            assert alone.rows[0].tolist() == hits.rows[q].tolist()
            assert alone.scores[0].tobytes() == hits.scores[q].tobytes()


# ---- which words are searched for as a group


def test_characters_without_documents(tmp_path: Path) -> None:
    index = built(tmp_path / "index", "unicode", ["猫犬", "cat", "กข"])
    assert index.search(["鱼", "鱼 cat", "ก่", {"鱼": 1.0}]).ids == [[], [1], [], []]
    assert index.knows(["猫", "犬", "鱼", "猫犬", "犬猫", "ก", "ก่", "cat"]) == [
        True, True, False, True, False, True, False, True,
    ]  # fmt: skip
    assert index.unknown_words("猫 鱼 cat dog ข ค") == ["鱼", "dog", "ค"]
    index.delete(0)
    assert index.search(["猫", "犬"]).ids == [[], []]
    assert index.knows(["猫", "犬"]) == [False, False]
    assert index.unknown_words("猫 cat") == ["猫"]


@pytest.mark.parametrize(
    ("settings", "groups", "found"),
    [
        ({}, True, [0, 1, 2, 3]),
        ({"tokenizer": "word"}, True, [0, 1, 2, 3]),
        ({"cjk": "none"}, False, [0, 1, 2, 3]),  # a character is a word
        ({"cjk": "none", "tokenizer": "word"}, False, []),
        ({"tokenizer": "char"}, False, [0, 1, 2, 3]),
        ({"tokenizer": "space"}, False, [3]),
        ({"tokenizer": str.split}, False, [3]),
        ({"ngrams": (1, 2)}, False, [3]),
        ({"char_ngrams": (3, 3)}, False, [3]),
        ({"stopwords": ("猫",)}, True, []),
        ({"stopwords": ("犬猫",)}, True, [0, 2, 3]),
        ({"min_length": 2}, True, [0, 1, 2, 3]),
        ({"stemmer": "english", "normalization": "german"}, True, [0, 1, 2, 3]),
    ],
)
def test_settings_with_and_without_groups(
    tmp_path: Path, settings: dict[str, Any], groups: bool, found: list[int]
) -> None:
    analyzer = Analyzer(**settings)
    table = pa.table({"id": range(5), "text": ["猫犬鱼", "犬猫", "鱼猫犬", "猫", "cats"]})
    index = Index.build(table, tmp_path / "index", analyzer=analyzer)
    assert sorted(index.search("猫").ids[0]) == found
    assert has_character_groups(analyzer.resolved("unicode")) == groups


@pytest.mark.parametrize("tokenizer", ["unicode", "word"])
def test_segmented_words_are_not_groups(tmp_path: Path, tokenizer: str) -> None:
    """With cjk="words" a word of Chinese is that word alone; Hangul is bigrams still."""
    texts = ["北京大学很大", "北京很大", "我爱北京", "한국어", "국"]
    analyzer = Analyzer(tokenizer=tokenizer, cjk="words")
    index = Index.build(
        pa.table({"id": range(5), "text": texts}), tmp_path / "index", analyzer=analyzer
    )
    tokens = [analyzer.tokens(text) for text in texts]
    for query in ("北京", "北京大学", "北", "大学", "爱", "很大"):
        rows = [row for row, own in enumerate(tokens) if query in own]
        assert sorted(index.search({query: 1.0}).ids[0]) == rows
    assert sorted(index.search("北京").ids[0]) == [1, 2]
    assert sorted(index.search("국").ids[0]) == [3, 4]
    assert sorted(index.search("한").ids[0]) == [3]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["猫", "𠀀", "か", "゙", "ー", "한", "ᄀ", "ก", "่", "า", "a", "9"]),
                min_size=1, max_size=3).map("".join))  # fmt: skip
def test_lone_characters(term: str) -> None:
    (token, *more) = naive_words.tokens(term) or [""]
    if not token or more:
        return
    splitter = splitter_of(Analyzer(tokenizer="unicode"))
    assert lone_characters(splitter, [token, "", "猫犬"]) == [
        is_character("unicode", token), False, False,
    ]  # fmt: skip


# ---- expansion


def test_expansion_with_characters(tmp_path: Path) -> None:
    texts = ["猫犬", "犬鱼", "鱼鸟", "cat", "鸟", "dog 猫"]
    index = built(tmp_path / "index", "unicode", texts)
    added = {"猫": {"鱼": 0.5, "cat": 0.25, "虎": 1.0}, "cat": {"猫": 0.5}, "dog": {}}

    def expand(queries: Sequence[str]) -> list[dict[str, float]]:
        return [added[query] for query in queries]

    collection = Collection("unicode", [TOKENS["unicode"](text) for text in texts])
    hits = index.search([*added], k=9, expand=expand)
    weights = [{"猫": 1.0, "鱼": 0.5, "cat": 0.25}, {"cat": 1.0, "猫": 0.5}, {"dog": 1.0}]
    for q, query in enumerate(weights):
        assert_near(hits, q, *collection.bm25(query))
