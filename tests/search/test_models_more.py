"""Ranking models by formula, against the naive twins: with deletions and several segments, with
negative parts and parts of zero; user-defined models; parts of any lists of documents."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq import (
    BM25,
    DPH,
    PL2,
    TFIDF,
    Analyzer,
    BoW,
    Dirichlet,
    Index,
    JelinekMercer,
    Ranking,
    SettingsError,
)
from fastseq.errors import FastseqWarning
from fastseq.search.ranking import (
    QueryTerms,
    RankingModel,
    Statistics,
    Words,
)
from fastseq.types import Texts
from tests.naive import models as naive
from tests.naive import words as naive_words
from tests.naive.character_groups import Collection as Characters
from tests.search.test_search_models import check, documents_of, hits_of, indexed
from tests.search.test_search_segments import split, texts

FORMULAS: list[tuple[RankingModel, Callable[[naive.Term], float]]] = [
    (Dirichlet(), naive.dirichlet(2000)),
    (Dirichlet(mu=3), naive.dirichlet(3)),
    (JelinekMercer(), naive.jelinek_mercer(0.1)),
    (JelinekMercer(lam=0.8), naive.jelinek_mercer(0.8)),
    (JelinekMercer(lam=1), lambda term: 0.0),
    (DPH(), naive.dph),
    (PL2(), naive.pl2(1)),
    (PL2(c=9), naive.pl2(9)),
    (Ranking(part=lambda tf, length, s: tf / length - 0.3), lambda t: t.tf / t.length - 0.3),
    (
        Ranking(
            weight=lambda s: np.log(s.tokens / s.cf) + s.df - s.documents,
            part=lambda tf, length, s: np.where(length > s.average_length, 0, tf - s.df),
        ),
        lambda t: (
            (math.log(t.tokens / t.cf) + t.df - t.documents)
            * (0 if t.length > t.tokens / t.documents else t.tf - t.df)
        ),
    ),
]
MODELS: list[RankingModel] = [
    *(BM25(variant=name) for name in BM25.VARIANTS),
    *map(TFIDF, ("ltc.lnc", "Lpn.atc", "nnc.nnn", "bnn.Lpc")),
    BoW(), BoW(cosine=True), *(model for model, _ in FORMULAS),
]  # fmt: skip
WORDS = [f"w{number}" for number in range(8)]
SPACE = Analyzer(tokenizer="space")

weights_of = st.dictionaries(
    st.sampled_from([*WORDS, "never"]), st.sampled_from([1.0, 2.0, 0.25, -1.5, 0.0]), max_size=5
)


def sizes(
    documents: Sequence[Sequence[str]], query: naive.Weights, formula: Callable[..., float]
) -> np.ndarray:
    """What the parts of each document add up to where their signs are left out."""
    absolute = {word: abs(weight) for word, weight in query.items()}
    return naive.scored(documents, absolute, lambda term: abs(formula(term)))[0]


@settings(deadline=None, max_examples=60)
@given(documents_of, st.lists(weights_of, min_size=1, max_size=3), hits_of)
def test_formulas_match_the_naive_twins(
    documents: list[list[str]], queries: list[dict[str, float]], k: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(documents, f"{folder}/index")
        for model, formula in FORMULAS:
            for query in queries:
                hits = index.search(query, k, model, threads=1)
                expected = naive.scored(documents, query, formula)
                check(hits, documents, expected, k, sizes(documents, query, formula))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(texts, min_size=2, max_size=20), st.lists(st.integers(1, 19), max_size=3),
    st.sets(st.integers(0, 19), max_size=12), hits_of,
)  # fmt: skip
def test_segments_and_deletions_match_the_naive_twins(
    documents: list[str], cuts: list[int], deleted: set[int], k: int
) -> None:
    deleted = {row for row in deleted if row < len(documents) - 1}
    cuts = [cut for cut in cuts if cut < len(documents)]
    left = [text.split() for row, text in enumerate(documents) if row not in deleted]
    queries: list[Any] = [
        "a b c", "猫 é zz", "a a b", {"a": 1.0, "b": -1.0, "zz": 0.0}, "absent", {"ab": -2.0},
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        index, fresh = split(Path(folder), documents, cuts, deleted)
        for model, formula in FORMULAS:
            one, several = (each.search(queries, k, model, threads=1) for each in (fresh, index))
            assert several.ids == one.ids
            assert several.scores.tobytes() == one.scores.tobytes()
            for q, query in enumerate(queries):
                asked = query if isinstance(query, dict) else Counter(query.split())
                expected = naive.scored(left, asked, formula)
                check(one[q : q + 1], left, expected, k, sizes(left, asked, formula))


def test_parts_of_zero_and_less_are_hits(tmp_path: Path) -> None:
    documents = [["a", "b"], ["b"], ["a"], ["a"] * 300, ["c"], ["b", "a", "c"]]
    index = indexed(documents, tmp_path / "index")
    for value in (0.0, -0.0, -1.0, -1e-30, 1e-30, 1e-60):
        model = Ranking(part=lambda tf, length, s, value=value: np.full(len(tf), value))
        hits = index.search(["a", "a b", {"a": -1.0}, {"a": 0.0}], 9, model)
        assert hits.rows[0].tolist() == [0, 2, 3, 5, *[-1] * 5]
        assert hits.rows[2].tolist() == hits.rows[3].tolist() == hits.rows[0].tolist()
        assert set(hits.rows[1].tolist()) == {0, 1, 2, 3, 5, -1}
        assert (hits.scores[0, :4] == np.float32(value)).all()
        assert not np.signbit(hits.scores[0, :4]).any() or value < 0


@pytest.mark.parametrize("few", [1, 10, 40])
def test_hits_whose_first_terms_have_negative_parts(tmp_path: Path, few: int) -> None:
    """The rest of such a document's score comes from a far more frequent term."""
    documents = [["rare", *["common"] * 4], *[["common", "other"]] * 3000, *[["other"]] * 100]
    index = indexed(documents, tmp_path / "index")
    model = Ranking(
        weight=lambda s: np.where(s.df < 10, 3.0, 1.0),
        part=lambda tf, length, s: np.where(s.df < 10, -1.0, tf),
    )
    hits = index.search("rare common", few, model)
    assert hits.rows[0].tolist() == list(range(few))
    assert (hits.scores == 1.0).all()


def test_terms_of_deleted_documents_alone(tmp_path: Path) -> None:
    """In one segment, between other terms, of which each is more frequent than those before."""
    texts = ["a", *["b"] * 10, *["c"] * 80, *["d"] * 700]
    table = pa.table({"id": range(len(texts)), "text": texts})
    index = Index.build(table, tmp_path / "index", analyzer=SPACE, threads=1)
    index.delete(range(1, 11))
    index.add(pa.table({"id": [-1], "text": ["b"]}), threads=1)
    hits = index.search("a b c d", 20, BoW())
    assert hits.ids == [[0, *range(11, 30)]]


def test_deleted_documents_are_no_hits(tmp_path: Path) -> None:
    ids = list(range(40))
    table = pa.table({"id": ids, "text": ["a b " * (1 + n % 3) for n in ids]})
    index = Index.build(table, tmp_path / "index", analyzer=SPACE, threads=1)
    index.delete(ids[::7])
    left = [id for id in ids if id % 7]
    for part in (-1.0, 0.0, 1.0):
        model = Ranking(part=lambda tf, length, s, part=part: np.full(len(tf), part))
        for query in ("a", "a b", {"a": 0.0, "b": -1.0}):
            assert index.search(query, 40, model).ids == [left]


def test_pruned_search_equals_exhaustive_search(tmp_path: Path) -> None:
    """Positive parts are searched with pruning; fewer hits are the first of more, bit for bit."""
    chance = np.random.default_rng(5)
    words = [f"w{n}" for n in range(50)]
    shares = 1 / np.arange(1, 51)
    documents = [
        list(chance.choice(words, chance.integers(1, 30), p=shares / shares.sum()))
        for _ in range(5000)
    ]
    index = indexed(documents, tmp_path / "index")
    queries = [" ".join(chance.choice(words, n)) for n in (1, 2, 3, 6, 10) for _ in range(6)]
    for model, _ in FORMULAS:
        every = index.search(queries, 5000, model)
        for k in (1, 10, 200):
            some = index.search(queries, k, model)
            assert some.rows.tobytes() == every.rows[:, :k].tobytes()
            assert some.scores.tobytes() == every.scores[:, :k].tobytes()


# ---- parts of lists of documents


def statistics_of(index: Index, term: str) -> Statistics:
    collection = index._collection
    ids = [leaf.segment.lookup(Texts.from_strings([term])) for leaf in collection.leaves]
    counts = [
        sum(each(own) for each, own in zip(functions, ids, strict=True))
        for functions in (
            [leaf.counts_of for leaf in collection.leaves],
            [leaf.occurrences_of for leaf in collection.leaves],
        )
    ]
    return Statistics.of(collection, *counts)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(texts, min_size=2, max_size=20), st.lists(st.integers(1, 19), max_size=3),
    st.sets(st.integers(0, 19), max_size=12),
)  # fmt: skip
def test_list_parts_are_the_bits_of_a_search(
    documents: list[str], cuts: list[int], deleted: set[int]
) -> None:
    deleted = {row for row in deleted if row < len(documents) - 1}
    cuts = [cut for cut in cuts if cut < len(documents)]
    with tempfile.TemporaryDirectory() as folder:
        index, _ = split(Path(folder), documents, cuts, deleted)
        searcher = index._searcher
        for model in MODELS:
            scorer = searcher.scorer(model)
            index.search({"a": 1.0, "b": 1.0}, 1, model)
            for number, leaf in enumerate(index._collection.leaves):
                segment = leaf.segment
                for word in ("a", "b"):
                    (term,) = segment.lookup(Texts.from_strings([word])).tolist()
                    statistics = statistics_of(index, word)
                    if term < 0 or statistics.df[0] == 0:
                        continue
                    own = range(leaf.first_row, leaf.first_row + segment.documents)
                    counts = [documents[row].split().count(word) for row in own]
                    rows = np.flatnonzero(counts).astype(np.int32)
                    tfs = np.array(counts, np.float64)[rows]
                    first, last = segment.postings.term_posting[term : term + 2].tolist()
                    expected = scorer._impacts[number].parts[first:last]
                    found = scorer.list_parts(number, rows, tfs, statistics)
                    alone = model.list_parts(
                        index._collection,
                        leaf,
                        rows,
                        tfs,
                        statistics.take(np.zeros(len(rows), int)),
                    )
                    assert found.tobytes() == alone.tobytes() == expected.tobytes(), model
                    live = np.array([row not in deleted for row in own])[rows]
                    assert ((found.view(np.uint32) != 0) == live).all()


@pytest.mark.parametrize("model", MODELS[:-2], ids=repr)
def test_fractional_frequencies_are_between_whole_ones(tmp_path: Path, model: RankingModel) -> None:
    """As those of sloppy phrases."""
    index = indexed([["a"] * 40, ["b"] * 40, ["c"] * 5], tmp_path / "index")
    (leaf,) = index._collection.leaves
    statistics = Statistics.of(index._collection, np.array([1]), np.array([2.5]))
    tfs = np.array([1, 1.5, 2, 2.25, 3, 6.5, 7])
    rows = np.zeros(len(tfs), np.int32)
    parts = model.list_parts(index._collection, leaf, rows, tfs, statistics)
    assert np.isfinite(parts).all()
    assert (np.diff(parts) >= 0).all()
    less = model.list_parts(index._collection, leaf, rows[:1], np.array([0.2]), statistics)
    if not isinstance(model, PL2):  # Stirling's approximation has 1 / (12 n)
        assert less[0] <= parts[0]


def test_lists_of_fields_have_the_statistics_of_the_field(tmp_path: Path) -> None:
    table = pa.table({"title": ["a b", "b", "c c a"], "text": ["x a", "a a y", "z"]})
    index = Index.build(
        table, tmp_path / "index", analyzer=SPACE, fields="title", text_columns=["title", "text"]
    )
    alone = indexed([["a", "b"], ["b"], ["c", "c", "a"]], tmp_path / "alone")

    class Title:
        """The collection of a field."""

        documents, tokens = 3, 6

        def frequencies(self, leaf: Any) -> Any:
            return leaf.df

    rows, tfs = np.array([0, 2], np.int32), np.array([1.0, 1.0])
    leaf = index._collection.leaves[0].of_field("title")
    for model in MODELS:
        statistics = Statistics.of(Title(), np.array([2]), np.array([2]))
        found = model.list_parts(Title(), leaf, rows, tfs, statistics)
        (own,) = alone._collection.leaves
        expected = model.list_parts(alone._collection, own, rows, tfs, statistics_of(alone, "a"))
        assert found.tobytes() == expected.tobytes(), model


# ---- idf of phrases


def leaves_of(df: list[int], cf: list[int], words: Words | None = None) -> QueryTerms:
    n = len(df)
    return QueryTerms(
        np.array([0, n]), np.arange(n, dtype=np.int32), np.array(df),
        np.arange(1, n + 1).astype(np.float32), np.zeros(1, np.float32), np.array(cf), words,
    )  # fmt: skip


def test_a_phrase_has_the_sum_of_its_words_idfs(tmp_path: Path) -> None:
    index = indexed([["a", "b"]] * 9 + [["c"]], tmp_path / "index")
    collection = index._collection
    models: list[RankingModel] = [
        *(BM25(variant=name) for name in BM25.VARIANTS), TFIDF("ltn.ntn"), TFIDF("npn.nnn"),
        Ranking(weight=lambda s: np.log(s.documents / s.df) + s.cf, part=lambda tf, _, s: tf),
    ]  # fmt: skip
    words = Words(np.array([0, 1, 3, 4]), np.array([3, 6, 2, 4]), np.array([3, 9, 2, 6]))
    for model in models:
        phrases = model.weigh(collection, leaves_of([3, 1, 4], [3, 1, 6], words))
        single = [
            model.weigh(collection, leaves_of([df], [cf]))
            for df, cf in ((3, 3), (6, 9), (2, 2), (4, 6))
        ]
        one = [float(each.weights[0]) for each in single]
        if isinstance(model, TFIDF) and model.smart == "ltn.ntn":  # the idf of both sides
            idf = np.sqrt(one)
            assert phrases.weights[1] == pytest.approx(2 * (idf[1] + idf[2]) ** 2, rel=1e-6)
        else:
            assert phrases.weights[1] == pytest.approx(2 * (one[1] + one[2]), rel=1e-6)
        assert phrases.weights[0] == np.float32(one[0])
        bases = [float(each.base[0]) for each in single]
        expected = bases[0] + 2 * (bases[1] + bases[2]) + 3 * bases[3]
        assert phrases.base[0] == pytest.approx(expected, rel=1e-6)
        without = model.weigh(collection, leaves_of([3, 1, 4], [3, 1, 6]))
        assert phrases.weights[1] != without.weights[1]


def test_words_follow_their_phrases() -> None:
    words = Words(np.array([0, 1, 3, 4]), np.array([3, 6, 2, 4]), np.array([3, 9, 2, 6]))
    taken = words.take(np.array([1, 0, 1]))
    assert taken.offsets.tolist() == [0, 2, 3, 5]
    assert taken.df.tolist() == [6, 2, 3, 6, 2]
    assert taken.cf is not None
    assert taken.cf.tolist() == [9, 2, 3, 9, 2]
    queries = QueryTerms(
        np.array([0, 2, 3]), np.arange(3, dtype=np.int32), np.array([3, 1, 4]),
        np.ones(3, np.float32), np.zeros(2, np.float32), np.array([3, 1, 6]), words,
    )  # fmt: skip
    second = queries.take(np.array([1]))
    assert second.cf is not None
    assert second.cf.tolist() == [6]
    assert second.sum_over_words(lambda df: df * 10.0).tolist() == [40.0]
    assert queries.sum_over_words(lambda df: df * 10.0).tolist() == [30.0, 80.0, 40.0]


# ---- groups of terms


def test_characters_in_bigrams_match_the_naive_twin(tmp_path: Path) -> None:
    documents = [
        "猫",
        "猫犬",
        "犬猫",
        "猫猫猫",
        "cat 猫 cat",
        "黒猫が猫を見た",
        "cat",
        "猫犬猫犬猫" * 20,
    ]
    tokens = [naive_words.tokens(text) for text in documents]
    tfs = Characters("unicode", tokens).frequencies("猫")
    tokens_of_all = sum(map(len, tokens))
    table = pa.table({"id": range(8), "text": documents})
    index = Index.build(table, tmp_path / "index", threads=1)
    for model, formula in FORMULAS:
        hits = index.search("猫", 9, model)
        expected = [
            formula(naive.Term(
                tf, len(own), 8, tokens_of_all, sum(n > 0 for n in tfs), sum(tfs)
            )) if tf else -math.inf
            for tf, own in zip(tfs, tokens, strict=True)
        ]  # fmt: skip
        rows = hits.rows[0, :7]
        assert sorted(rows.tolist()) == [row for row, tf in enumerate(tfs) if tf]
        np.testing.assert_allclose(hits.scores[0, :7], np.array(expected)[rows], 1e-5, 1e-6)
    index.delete([3, 5])
    fresh = Index.build(table.take([0, 1, 2, 4, 6, 7]), tmp_path / "fresh", threads=1)
    for model, _ in FORMULAS:
        one, other = (each.search(["猫", "猫 cat"], 9, model) for each in (index, fresh))
        assert one.ids == other.ids
        assert one.scores.tobytes() == other.scores.tobytes()


# ---- user-defined models


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda tf: tf[:1], r"part returned an array of shape \(1,\); expected 3 numbers"),
        (lambda tf: 1.0, r"part returned an array of shape \(\); expected 3 numbers"),
        (lambda tf: tf[:, None], r"shape \(3, 1\)"),
        (lambda tf: np.full(len(tf), np.nan), "part returned nan; expected numbers from -1e.15"),
        (lambda tf: tf * np.inf, "part returned inf"),
        (lambda tf: tf * -1e16, r"part returned -1e\+16"),
        (lambda tf: None, "part returned "),
        (lambda tf: ["x"] * len(tf), r"part returned \['x', 'x', 'x'\]; expected an array of 3"),
        (lambda tf: tf * 1j, "part returned "),
    ],
)
def test_wrong_results_of_a_part_are_named(
    tmp_path: Path, result: Callable[[Any], Any], said: str
) -> None:
    index = indexed([["a"], ["a", "b"], ["a"]], tmp_path / "index")
    model = Ranking(part=lambda tf, length, s: result(tf))
    for _ in range(2):  # nothing of the first search is kept
        with pytest.raises(SettingsError, match=said):
            index.search("a", 3, model)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda s: s.df[:1], r"weight returned an array of shape \(1,\); expected 2 numbers"),
        (lambda s: s.df * np.nan, "weight returned nan"),
        (lambda s: s.df * 1e21, r"weight returned .*expected numbers from -1e\+20 to 1e\+20"),
        (lambda s: "x", "weight returned 'x'; expected an array of 2 numbers"),
    ],
)
def test_wrong_results_of_a_weight_are_named(
    tmp_path: Path, result: Callable[[Any], Any], said: str
) -> None:
    index = indexed([["a"], ["a", "b"], ["a"]], tmp_path / "index")
    with pytest.raises(SettingsError, match=said):
        index.search("a b", 3, Ranking(weight=result, part=lambda tf, length, s: tf))


def test_functions_get_arrays_of_one_length(tmp_path: Path) -> None:
    index = indexed([["a", "b", "b"], ["a"], ["c", "a"]], tmp_path / "index")
    seen: list[Any] = []

    def part(tf: Any, length: Any, statistics: Statistics) -> Any:
        seen.append((tf.copy(), length.copy(), statistics))
        return tf

    def weight(statistics: Statistics) -> Any:
        assert (statistics.documents, statistics.tokens) == (3, 6)
        assert statistics.df.tolist() == [3, 1]
        assert statistics.cf.tolist() == [3, 2]
        return np.array([1.0, 10.0])

    hits = index.search("b a", 3, Ranking(weight=weight, part=part))
    assert hits.scores[0].tolist() == [21, 1, 1]
    ((tf, length, statistics),) = seen
    columns = (tf, length, statistics.df, statistics.cf)
    assert sorted(zip(*(each.tolist() for each in columns), strict=True)) == [
        (1, 1, 3, 3), (1, 2, 3, 3), (1, 3, 3, 3), (2, 3, 1, 2)
    ]  # fmt: skip
    assert statistics.average_length == 2
    assert all(each.dtype == np.float64 for each in columns)
    index.search("a b", 1, Ranking(weight=weight, part=part))
    assert len(seen) == 1  # cached: an equal model


def test_arguments_of_a_user_defined_model_are_checked() -> None:
    wrong: Any
    for wrong in (None, 3, "tf"):
        with pytest.raises(SettingsError, match=f"part must be a function, not {wrong!r}"):
            Ranking(part=wrong)
    with pytest.raises(SettingsError, match="weight must be a function, not 2"):
        Ranking(weight=2, part=lambda tf, length, s: tf)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="part must be a function, not None"):
        Ranking()


def test_functions_must_be_hashable() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, *given: Any) -> Any:
            return given[0]

    with pytest.raises(SettingsError, match="must be hashable"):
        Ranking(part=Unhashable())


def test_models_by_formula_are_searched_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastseq.search.searcher.check_device", lambda device: None)
    index = indexed([["a", "b"], ["a"]], tmp_path / "index")
    with pytest.warns(FastseqWarning, match="only BM25, TF-IDF and BoW are searched on a GPU"):
        hits = index.search(["a b"], 2, DPH(), device="cuda")
    assert hits.scores.tobytes() == index.search(["a b"], 2, DPH()).scores.tobytes()


@pytest.mark.parametrize(
    ("kind", "name", "values", "said"),
    [
        (Dirichlet, "mu", (0, -1, 1e7, math.nan, "1", None), "from 1 to 1,000,000"),
        (JelinekMercer, "lam", (0, 1.1, math.inf, [1]), "from 0.001 to 1"),
        (PL2, "c", (0, -2, 2e6), "from 0.01 to 1,000,000"),
    ],
)
def test_out_of_range_parameters_are_rejected(
    kind: Any, name: str, values: Sequence[Any], said: str
) -> None:
    for value in values:
        with pytest.raises(SettingsError, match=f"^{name} must be {said}, not "):
            kind(**{name: value})


@pytest.mark.parametrize(
    "model", [Dirichlet(1), Dirichlet(1e6), JelinekMercer(0.001), PL2(0.01), PL2(1e6)], ids=repr
)
def test_extreme_parameters_still_rank(tmp_path: Path, model: RankingModel) -> None:
    index = indexed([["a"], ["a"] * 70_000, ["b", "a"], [*"bcdefgh"] * 900], tmp_path / "index")
    hits = index.search("a b", 4, model)
    assert np.isfinite(hits.scores).all()
    assert set(hits.rows[0].tolist()) == {0, 1, 2, 3}
