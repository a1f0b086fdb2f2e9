"""Every ranking model against the naive twin, on small collections of every odd shape."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
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
    Dot,
    Hits,
    Index,
    JelinekMercer,
)
from fastseq.errors import SettingsError
from fastseq.search.bm25f import BM25F
from fastseq.search.model_names import model_by_name
from fastseq.search.ranking import RankingModel
from fastseq.text.weighting import LARGEST, MODELS
from tests.naive import ranking as naive

WORDS = [f"w{number}" for number in range(8)]
UNKNOWN = "never"
SMART = ["".join(letters) for letters in itertools.product("nlbL", "ntp", "nc")]
SMART_QUERY = ["".join(letters) for letters in itertools.product("nlabL", "ntp", "nc")]

# a document is words with their frequencies, among them those around the limits of four and eight
# bits
documents_of = st.lists(
    st.dictionaries(
        st.sampled_from(WORDS),
        st.sampled_from([1, 1, 1, 2, 7, 14, 15, 16, 254, 255, 256, 700]),
        max_size=5,
    ).map(lambda counts: [word for word, count in counts.items() for _ in range(count)]),
    min_size=1,
    max_size=30,
)
query_of = st.lists(st.sampled_from([*WORDS, UNKNOWN]), max_size=7)
hits_of = st.sampled_from([1, 2, 5, 10, 100])


def indexed(documents: Sequence[Sequence[str]], path: str | Path) -> Index:
    """An index whose tokens are exactly these."""
    table = pa.table({"text": [" ".join(document) for document in documents]})
    return Index.build(table, path, analyzer=Analyzer(tokenizer="space"), threads=1)


def check(
    hits: Hits,
    documents: Sequence[Sequence[str]],
    expected: naive.Scores,
    k: int,
    scale: np.ndarray | float = 0.0,
    ties: bool = True,
) -> None:
    """Query 0 of `hits` is the ranking by the expected scores, up to float32.

    scale : the size of what was added up, where that cancels out
    ties : equal scores must be ordered by row (else only those of equal documents)
    """
    scores, found = expected
    rows, given = hits.rows[0], hits.scores[0].astype(np.float64)
    assert hits.rows.dtype == np.int32
    assert hits.scores.dtype == np.float32
    assert len(rows) == len(given) == k
    count = min(k, int(found.sum()))
    assert (rows[count:] == -1).all()
    assert (given[count:] == 0).all()
    rows, given = rows[:count], given[:count]
    assert found[rows].all()
    assert len(set(rows.tolist())) == count
    slack = np.broadcast_to(1e-5 * np.maximum(np.abs(scores), scale) + 1e-9, scores.shape)
    np.testing.assert_array_less(np.abs(given - scores[rows]), slack[rows])
    assert (np.diff(given) <= 0).all()
    if count:
        left = found.copy()
        left[rows] = False
        assert (scores[left] - slack[left] <= given[-1] + slack[rows[-1]]).all()
    if ties:
        equal = np.diff(given) == 0
        assert (np.diff(rows)[equal] > 0).all()
    # equal documents have equal scores and rank in row order
    place = {row: i for i, row in enumerate(rows.tolist())}
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in np.flatnonzero(found).tolist():
        groups.setdefault(tuple(sorted(documents[row])), []).append(row)
    for group in groups.values():
        places = [place[row] for row in group if row in place]
        assert places == sorted(places)
        assert [row for row in group if row in place] == group[: len(places)]
        assert len({given[i] for i in places}) <= 1


def ranked(
    index: Index, query: Sequence[str] | Mapping[str, float], k: int, model: RankingModel
) -> Hits:
    asked = query if isinstance(query, Mapping) else " ".join(query)
    return index.search(asked, k=k, model=model, threads=1)


# ---- BM25


@settings(deadline=None, max_examples=60)
@given(
    documents_of,
    st.lists(query_of, min_size=1, max_size=4),
    st.sampled_from([0.0, 0.4, 1.2, 3.0, 100.0]),
    st.sampled_from([0.0, 0.4, 0.75, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    hits_of,
)
def test_bm25_variants_match_the_naive_twin(
    documents: list[list[str]],
    queries: list[list[str]],
    k1: float,
    b: float,
    delta: float,
    k: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(documents, f"{folder}/index")
        for variant, query in itertools.product(BM25.VARIANTS, queries):
            hits = ranked(index, query, k, BM25(k1, b, delta, variant))
            if k1 + delta == 0 and variant == "bm25l":
                continue  # 0 / 0 where the term is not: any document is as good as another
            expected = naive.bm25(documents, query, variant, k1, b, delta)
            check(hits, documents, expected, k)


@settings(deadline=None, max_examples=40)
@given(
    documents_of,
    st.dictionaries(
        st.sampled_from([*WORDS, UNKNOWN]),
        st.sampled_from([0.0, 0.25, 1.0, 2.5, 1e6, 1e-6, -0.5, -3.0]),
        max_size=6,
    ),
    hits_of,
)
def test_weights_of_any_sign_match_the_naive_twin(
    documents: list[list[str]], weights: dict[str, float], k: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(documents, f"{folder}/index")
        for variant in BM25.VARIANTS:
            hits = ranked(index, weights, k, BM25(variant=variant))
            sizes = {word: abs(weight) for word, weight in weights.items()}
            scale, _ = naive.bm25(documents, sizes, variant)
            expected = naive.bm25(documents, weights, variant)
            check(hits, documents, expected, k, scale)


def test_term_in_every_document(tmp_path: Path) -> None:
    """Its weight is zero for some models, and yet the documents are found, in their order."""
    documents = [["all", f"w{n % 3}"] for n in range(40)]
    index = indexed(documents, tmp_path / "index")
    models: list[RankingModel] = [
        BM25(variant="robertson"),
        BM25(variant="atire"),
        TFIDF(),
        TFIDF("npn.nnn"),
    ]
    for model in models:
        hits = index.search("all", k=50, model=model)
        assert hits.rows[0].tolist() == [*range(40), *[-1] * 10]
        assert not hits.scores.any()
        both = index.search("all w1", k=50, model=model)
        assert both.rows[0, :40].tolist() == [
            *range(1, 40, 3),
            *(n for n in range(40) if n % 3 != 1),
        ]
    for variant in ("lucene", "bm25+", "bm25l"):
        assert (index.search("all", k=40, model=BM25(variant=variant)).scores > 0).all()


def test_equal_documents_rank_in_row_order(tmp_path: Path) -> None:
    documents = (
        [["same", "words"]] * 3000 + [["same"], ["words", "words"]] + [["same", "words"]] * 9
    )
    index = indexed(documents, tmp_path / "index")
    for model in (BM25(), BM25(variant="bm25+"), BM25(variant="bm25l"), TFIDF(), BoW()):
        for query in ("same", "words same", "words"):
            short = index.search(query, k=100, model=model)
            long = index.search(query, k=4000, model=model)
            assert (long.rows[0, :100] == short.rows[0]).all()
            for row in (3000, 3001):
                rows = long.rows[0][(long.rows[0] != row) & (long.rows[0] != 6001 - row)]
                assert (np.diff(rows[rows >= 0]) > 0).all()
            check(short, documents, _expected(model, documents, query.split()), 100, ties=False)


# ---- TF-IDF and bags of words


@settings(deadline=None, max_examples=60)
@given(
    documents_of,
    st.lists(query_of, min_size=1, max_size=3),
    st.lists(
        st.tuples(st.sampled_from(SMART), st.sampled_from(SMART_QUERY)), min_size=6, max_size=6
    ),
    hits_of,
)
def test_smart_notations_match_the_naive_twin(
    documents: list[list[str]],
    queries: list[list[str]],
    notations: list[tuple[str, str]],
    k: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = indexed(documents, f"{folder}/index")
        for query in queries:
            for of_document, of_query in notations:
                notation = f"{of_document}.{of_query}"
                hits = ranked(index, query, k, TFIDF(notation))
                check(hits, documents, naive.smart(documents, query, notation), k)
            for cosine in (False, True):
                hits = ranked(index, query, k, BoW(cosine))
                check(hits, documents, naive.bag_of_words(documents, query, cosine), k)


def test_every_smart_notation(tmp_path: Path) -> None:
    documents = [
        ["a", "b", "b", "c"],
        ["a"] * 300 + ["d"] * 2,
        [],
        ["d", "d", "d", "c"],
        ["e"],
        ["b", "a", "a"],
    ]
    query = ["a", "a", "b", "d", "never"]
    weights = {"a": 2.0, "c": 1.0, "d": 5.5, "never": 3.0}
    index = indexed(documents, tmp_path / "index")
    for of_document, of_query in itertools.product(SMART, SMART_QUERY):
        notation = f"{of_document}.{of_query}"
        for asked in (query, weights):
            expected = naive.smart(documents, asked, notation)
            check(ranked(index, asked, 10, TFIDF(notation)), documents, expected, 10)


@pytest.mark.parametrize(("rare", "packed"), [(2, 0), (300, 1)])
def test_term_frequencies_are_exact(tmp_path: Path, rare: int, packed: int) -> None:
    """Bytes and, where few are of 15 and more, two to a byte."""
    counts = [1, 13, 14, 15, 16, 17, 253, 254, 255, 256, 257, 65_535, 65_536, 100_000]
    documents = [["word"] * count + ["other"] * 300 for count in counts]
    documents.append([f"x{n}" for n in range(rare)])
    index = indexed(documents, tmp_path / "index")
    assert index._collection.leaves[0].segment.postings.packed == packed
    hits = index.search("word", k=20, model=BoW())
    assert hits.rows[0, : len(counts)].tolist() == [*reversed(range(len(counts)))]
    assert hits.scores[0, : len(counts)].tolist() == [*reversed(counts)]
    assert (index.search("other", k=14, model=BoW()).scores == 300).all()
    for model in (*(BM25(variant=name) for name in BM25.VARIANTS), TFIDF(), TFIDF("Ltn.nnn")):
        for k in (9, 20):
            check(
                index.search("word other x1", k=k, model=model), documents,
                _expected(model, documents, ["word", "other", "x1"]), k,
            )  # fmt: skip


@pytest.mark.parametrize("smart", ["nnn.ann", "nnc.anc", "nnn.Lnn", "nnn.lnn", "nnn.bnc"])
def test_undefined_smart_weights_stay_finite(tmp_path: Path, smart: str) -> None:
    """Zero and negative weights under a logarithm or a maximum stay finite."""
    index = indexed([["a", "b"], ["b"]], tmp_path / "index")
    for weights in ({"a": 0.0}, {"a": -1.0}, {"a": -1.0, "b": 0.0}, {"a": 0.5, "b": -2.0}):
        hits = index.search(weights, k=2, model=TFIDF(smart))
        assert np.isfinite(hits.scores).all()
        assert set(hits.rows[0].tolist()) >= {0}


# ---- a query's form


def test_mapping_equals_repeated_words(tmp_path: Path) -> None:
    index = indexed([["a", "b"], ["b", "c", "c"], ["c"]], tmp_path / "index")
    for model in (BM25(), BM25(variant="bm25+"), TFIDF("ltc.atc"), BoW(cosine=True)):
        words = index.search("c b c never", model=model)
        mapped = index.search({"never": 9, "b": 1, "c": 2}, model=model)
        assert (words.rows == mapped.rows).all()
        assert words.scores.tobytes() == mapped.scores.tobytes()


def test_the_base_score_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    """A sum over one query's terms must not round with those of the queries before it."""
    words = [f"w{n}" for n in range(200)]
    index = indexed([words[n : n + 5] for n in range(200)], tmp_path / "index")
    chance = np.random.default_rng(3)
    queries: list[Any] = [
        {words[i]: float(chance.random()) for i in chance.integers(0, 200, 6)} for _ in range(300)
    ]
    queries[::7] = [{words[0]: 1e15}] * len(queries[::7])
    for model in (BM25(variant="bm25+"), BM25(variant="bm25l"), TFIDF("ntc.Lnc"), TFIDF("ntn.Ltn")):
        batch = index.search(queries, k=5, model=model)
        for q, query in enumerate(queries):
            alone = index.search(query, k=5, model=model)
            assert (alone.rows[0] == batch.rows[q]).all()
            assert alone.scores[0].tobytes() == batch.scores[q].tobytes()


# ---- settings


@pytest.mark.parametrize("name", ["k1", "b", "delta"])
@pytest.mark.parametrize(
    "value", [-0.1, -1, float("nan"), float("inf"), 1e300, LARGEST + 1, "1", None, [1], 1j]
)
def test_out_of_range_parameters_are_rejected(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be from 0 to 1"):
        BM25(**{name: value})


def test_other_wrong_settings_are_rejected() -> None:
    with pytest.raises(SettingsError, match="from 0 to 1,"):
        BM25(b=1.0001)
    with pytest.raises(SettingsError, match=r"lucene, robertson, atire, bm25\+, bm25l"):
        BM25(variant="okapi")
    smart: Any
    for smart in ("", "ltc", "ltc.ln", "xtc.lnc", "ltc.xnc", "ltc-lnc", "atc.lnc", "ltcl.lnc", 3):
        with pytest.raises(SettingsError, match=r"ltc\.lnc"):
            TFIDF(smart)


@pytest.mark.parametrize("variant", BM25.VARIANTS)
def test_largest_parameters_still_rank(tmp_path: Path, variant: str) -> None:
    documents = [["a", "b"], ["b"] * 5, ["a"] * 300, ["c"] * 5000 + ["a"]]
    index = indexed(documents, tmp_path / "index")
    model = BM25(k1=LARGEST, b=1, delta=LARGEST, variant=variant)
    hits = index.search("a b", k=4, model=model)
    assert np.isfinite(hits.scores).all()
    check(
        hits,
        documents,
        naive.bm25(documents, ["a", "b"], variant, LARGEST, 1, LARGEST),
        4,
        ties=False,
    )
    for weight in (1e20, -1e20):
        assert np.isfinite(index.search({"a": weight, "b": weight}, k=4, model=model).scores).all()
        assert (index.search({"a": weight}, k=4, model=model).counts == 3).all()


def test_models_by_name() -> None:
    assert [type(model_by_name(name)) for name in MODELS] == [
        *[BM25] * 5, BM25F, TFIDF, BoW, Dirichlet, JelinekMercer, DPH, PL2, Dot
    ]  # fmt: skip
    assert model_by_name("dirichlet", mu=500) == Dirichlet(500)
    assert model_by_name("jm", lam=0.5) == JelinekMercer(0.5)
    assert model_by_name("pl2", c=7) == PL2(7)
    assert model_by_name("bm25") == BM25()
    assert model_by_name("bm25l", k1=2, b=0.5, delta=1) == BM25(2, 0.5, 1, "bm25l")
    assert model_by_name("tfidf", smart="nnn.nnn") == TFIDF("nnn.nnn")
    for name, wrong in (
        ("okapi", {}),
        ("tfidf", {"k1": 1.0}),
        ("bow", {"delta": 1.0}),
        ("bow", {"smart": "nnn.nnn"}),
        ("bm25", {"smart": "nnn.nnn"}),
        ("dph", {"c": 1.0}),
        ("pl2", {"mu": 100}),
    ):
        with pytest.raises(SettingsError):
            model_by_name(name, **wrong)


def _expected(
    model: RankingModel, documents: Sequence[Sequence[str]], query: Sequence[str]
) -> naive.Scores:
    if isinstance(model, BM25):
        return naive.bm25(documents, query, model.variant, model.k1, model.b, model.delta)
    if isinstance(model, TFIDF):
        return naive.smart(documents, query, model.smart)
    assert isinstance(model, BoW)
    return naive.bag_of_words(documents, query, model.cosine)


def test_delta_applies_to_bm25_plus_and_bm25l_only() -> None:
    assert model_by_name("bm25l", delta=1.0) == BM25(delta=1.0, variant="bm25l")
    for name in ("bm25", "robertson", "atire", "tfidf", "bow"):
        with pytest.raises(SettingsError, match="delta"):
            model_by_name(name, delta=1.0)
