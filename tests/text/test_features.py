"""Feature extractors against scikit-learn, a naive twin, and the search that they mirror."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import fastseq
from fastseq import BM25Features, CountFeatures, TfidfFeatures
from fastseq.errors import DataError, FastseqError, FormatError, SettingsError
from fastseq.features.estimators import Features
from fastseq.store.texts import slices_of
from fastseq.text.counting import ascending
from fastseq.types import Texts
from tests.naive import features as naive
from tests.naive import text as naive_text

STOP = ("the", "of", "naïve")


def collection(n: int, seed: int = 0) -> list[str]:
    """Texts whose words follow a power law, with accents, digits and empty texts."""
    rng = random.Random(seed)
    odd = ["été", "Straße", "naïve", "a1", "x_y", "Ωmega", "über", "coöperate", "the", "of"]

    def word() -> str:
        i = int(rng.paretovariate(0.8)) % 3000
        return odd[i % 10] if i % 7 == 3 else f"{'abcdefgh'[i % 8]}word{i}"

    return [
        " ".join(word() for _ in range(rng.choice([0, 1, 5, 40, 200]))).capitalize() + "."
        for _ in range(n)
    ]


TEXTS = collection(300)
OTHERS = [*collection(50, seed=1), "no such words anywhere", ""]

# ours, scikit-learn's
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"ngrams": (1, 2)}, {"ngram_range": (1, 2)}),
    ({"ngrams": (2, 3)}, {"ngram_range": (2, 3)}),
    ({"ngrams": (1, 3), "min_df": 2}, {"ngram_range": (1, 3), "min_df": 2}),
    ({"min_df": 3, "max_df": 0.3}, {"min_df": 3, "max_df": 0.3}),
    ({"min_df": 0.02, "max_df": 60}, {"min_df": 0.02, "max_df": 60}),
    ({"stopwords": STOP}, {"stop_words": list(STOP)}),
    (
        {"stopwords": STOP, "ngrams": (1, 2)},
        {"stop_words": list(STOP), "ngram_range": (1, 2)},
    ),
    ({"lowercase": False}, {"lowercase": False}),
    ({"min_length": 1}, {"token_pattern": r"(?u)\b\w+\b"}),
    ({"fold_accents": True}, {"strip_accents": "unicode"}),
    (
        {"tokenizer": "space", "char_ngrams": (2, 4)},
        {"analyzer": "char_wb", "ngram_range": (2, 4)},
    ),
    ({"tokenizer": str.split}, {"tokenizer": str.split, "token_pattern": None}),
]


def equal(ours: Any, theirs: Any) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    theirs.sort_indices()
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-12, atol=0)
    ours.check_format(full_check=True)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("own", "sklearns"), SAME)
def test_counts_match_scikit_learn(own: dict, sklearns: dict, threads: int) -> None:
    ours = CountFeatures(cjk="none", threads=threads, **own)
    theirs = CountVectorizer(**sklearns)
    equal(ours.fit_transform(TEXTS), theirs.fit_transform(TEXTS))
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())
    assert ours.vocabulary_ == theirs.vocabulary_
    equal(ours.transform(OTHERS), theirs.transform(OTHERS))


@pytest.mark.parametrize(("own", "sklearns"), SAME)
def test_tfidf_matches_scikit_learn(own: dict, sklearns: dict) -> None:
    ours, theirs = TfidfFeatures(cjk="none", **own), TfidfVectorizer(**sklearns)
    equal(ours.fit_transform(TEXTS), theirs.fit_transform(TEXTS))
    np.testing.assert_allclose(ours.idf_, theirs.idf_, rtol=1e-14)
    equal(ours.transform(OTHERS), theirs.transform(OTHERS))


@pytest.mark.parametrize("norm", ["l1", "l2", None])
@pytest.mark.parametrize("flags", range(16))
def test_every_weighting_of_tfidf(norm: str | None, flags: int) -> None:
    names = ("use_idf", "smooth_idf", "sublinear_tf", "binary")
    own = {name: bool(flags >> i & 1) for i, name in enumerate(names)}
    ours = TfidfFeatures(cjk="none", norm=norm, min_df=2, **own)
    theirs = TfidfVectorizer(norm=norm, min_df=2, **own)
    equal(ours.fit_transform(TEXTS), theirs.fit_transform(TEXTS))


def test_max_features_keeps_the_most_frequent() -> None:
    totals = np.sort(CountVectorizer().fit_transform(TEXTS).sum(axis=0).A1)[::-1]
    borders = [n for n in range(1, 200) if totals[n - 1] > totals[n]][::5]
    assert len(borders) > 3
    for n in borders:  # where equals do not fall to either side, which scikit-learn leaves open
        equal(
            CountFeatures(cjk="none", max_features=n).fit_transform(TEXTS),
            CountVectorizer(max_features=n).fit_transform(TEXTS),
        )
    tied = CountFeatures(max_features=2).fit(["dd cc bb", "dd aa"])
    assert list(tied.get_feature_names_out()) == ["aa", "dd"]
    binary = CountFeatures(max_features=1, binary=True).fit(["bb bb bb", "aa", "aa"])
    assert list(binary.get_feature_names_out()) == ["aa"]


def test_dtypes() -> None:
    counts = CountFeatures(cjk="none", binary=True, dtype=np.uint8).fit_transform(TEXTS)
    equal(counts, CountVectorizer(binary=True, dtype=np.uint8).fit_transform(TEXTS))
    ours = TfidfFeatures(cjk="none", dtype=np.float32).fit_transform(TEXTS)
    theirs = TfidfVectorizer(dtype=np.float32).fit_transform(TEXTS)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours.toarray(), theirs.toarray(), rtol=2e-6, atol=0)


def test_accents_fold_as_scikit_learn_strips_them() -> None:
    """Over all of Latin: strip_accents acts on whole texts, and before lower-casing."""
    letters = [chr(c) for c in [*range(0xC0, 0x250), *range(0x1E00, 0x1F00)] if chr(c).isalpha()]
    texts = [f"a{letter}b {letter}{letter}" for letter in letters]
    ours = CountFeatures(cjk="none", fold_accents=True)
    theirs = CountVectorizer(strip_accents="unicode")
    equal(ours.fit_transform(texts), theirs.fit_transform(texts))
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


# ---- the naive twin

TEXT = st.lists(
    st.sampled_from(["aa", "Bb", "été", "猫", "猫猫", "zz9", "the", "𐐷𐐷", "\x01", "ab\0c"]),
    max_size=30,
).map(" ".join)


def as_rows(matrix: Any, terms: list[str]) -> list[naive.Row]:
    rows = []
    for d in range(matrix.shape[0]):
        here = slice(matrix.indptr[d], matrix.indptr[d + 1])
        rows.append(
            dict(
                zip(
                    (terms[c] for c in matrix.indices[here]),
                    matrix.data[here].tolist(),
                    strict=True,
                )
            )
        )
    return rows


@settings(max_examples=80, deadline=None)
@given(
    st.lists(TEXT, min_size=1, max_size=30),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([1, 2, 0.1]),
    st.sampled_from([1.0, 0.6, 20]),
    st.sampled_from([None, 1, 5]),
    st.booleans(),
)
def test_all_methods_match_the_naive_twin(
    texts: list[str],
    low: int,
    more: int,
    min_df: float,
    max_df: float,
    most: int | None,
    binary: bool,
) -> None:
    tokens = [naive_text.word_ngrams(naive_text.visible(t), low, low + more) for t in texts]
    own: dict[str, Any] = {"tokenizer": "space", "ngrams": (low, low + more)}
    choice: dict[str, Any] = {"min_df": min_df, "max_df": max_df, "max_features": most}
    kinds = (
        (CountFeatures(binary=binary, **choice, **own), binary),
        (TfidfFeatures(sublinear_tf=True, smooth_idf=False, norm="l1", **choice, **own), False),
        (BM25Features(k1=0.7, b=0.4, **choice, **own), False),
    )
    for ours, twice in kinds:
        fitted = naive.fit(tokens, **choice, binary=twice)
        if not fitted.terms:
            with pytest.raises((DataError, SettingsError)):
                ours.fit(texts)
            continue
        found = as_rows(ours.fit_transform(texts), fitted.terms)
        assert list(ours.get_feature_names_out()) == fitted.terms
        expected = [
            naive.counts(fitted, text, binary)
            if isinstance(ours, CountFeatures)
            else naive.tfidf(fitted, text, "l1", smooth_idf=False, sublinear_tf=True)
            if isinstance(ours, TfidfFeatures)
            else naive.bm25(fitted, text, 0.7, 0.4)
            for text in tokens
        ]
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.text(st.sampled_from("ab\0é猫𐐷 "), max_size=40), min_size=1, max_size=200),
    st.integers(1, 3),
)
def test_terms_are_sorted_by_code_point(terms: set[str], threads: int) -> None:
    strings = list(terms)
    order = ascending(Texts.from_strings(strings), np.arange(len(strings), dtype=np.int32), threads)
    assert [strings[i] for i in order] == sorted(strings)


def test_many_terms_with_long_common_beginnings_are_sorted() -> None:
    rng = random.Random(0)
    strings = list(
        {rng.choice("ab") * rng.randrange(60) + str(rng.randrange(999)) for _ in range(9000)}
    )
    order = ascending(Texts.from_strings(strings), np.arange(len(strings), dtype=np.int32), 2)
    assert [strings[i] for i in order] == sorted(strings)


# ---- texts of every form, slices and threads


def test_the_result_does_not_depend_on_threads_or_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastseq.store import texts

    first = TfidfFeatures(ngrams=(1, 2), threads=1).fit_transform(TEXTS)
    monkeypatch.setattr(texts, "SLICE_BYTES", 700)
    assert len(list(slices_of(TEXTS))) > 20
    for threads in (1, 2, 5):
        other = TfidfFeatures(ngrams=(1, 2), threads=threads).fit_transform(TEXTS)
        assert (first != other).nnz == 0


def test_texts_may_have_many_forms(tmp_path: Path) -> None:
    table = pa.table({"id": [str(i) for i in range(len(TEXTS))], "text": TEXTS})
    pq.write_table(table, tmp_path / "docs.parquet", row_group_size=70)
    packed = Texts.from_strings(TEXTS)
    frozen = np.frombuffer(packed.data.tobytes(), np.uint8)
    forms: list[Any] = [
        tuple(TEXTS),
        iter(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        packed,
        Texts(frozen, packed.offsets),
        [packed, Texts.from_strings([])],
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.chunked_array([TEXTS[:100], TEXTS[100:]]),
        pa.array(TEXTS).dictionary_encode(),
        table,
        table.to_reader(),
        tmp_path / "docs.parquet",
        str(tmp_path / "docs.parquet"),
        fastseq.Corpus.open(tmp_path / "docs.parquet", text_columns="text"),
    ]
    expected = CountFeatures().fit_transform(TEXTS)
    for form in forms:
        found = CountFeatures().fit_transform(form)
        assert (found != expected).nnz == 0, type(form)
    nulls = CountFeatures().fit_transform(pa.array(["aa", None, "bb"]))
    assert nulls.toarray().tolist() == [[1, 0], [0, 0], [0, 1]]


def test_one_long_text_among_short_ones() -> None:
    texts = ["aa bb", "aa " * 100_000 + "bb", " ".join(f"w{i}" for i in range(70_000)), ""]
    equal(CountFeatures(cjk="none").fit_transform(texts), CountVectorizer().fit_transform(texts))


def test_tokenizer_whose_tokens_contain_spaces() -> None:
    """«a b» + «c» and «a» + «b c» are one term."""

    def split(text: str) -> list[str]:
        return text.split("|")

    texts = ["a b|c", "a|b c", "a b c|a|b c", "c|a b|c"]
    ours = CountFeatures(tokenizer=split, ngrams=(1, 2), min_df=2, max_features=2)
    theirs = CountVectorizer(
        tokenizer=split, token_pattern=None, ngram_range=(1, 2), min_df=2, max_features=2
    )
    found, expected = ours.fit_transform(texts), theirs.fit_transform(texts)
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())
    equal(found, expected)
    assert ours.df_.tolist() == (expected > 0).sum(axis=0).A1.tolist()


def test_bm25_features_equal_search_scores(tmp_path: Path) -> None:
    analyzer = fastseq.Analyzer(tokenizer="word", stopwords="lucene", stemmer="english")
    index = fastseq.Index.build(pa.table({"text": TEXTS}), tmp_path / "index", analyzer=analyzer)
    features = BM25Features(k1=0.9, b=0.4, analyzer=analyzer)
    matrix = features.fit_transform(TEXTS)
    query = "été aword8 xy"
    columns = [features.vocabulary_[t] for t in analyzer.tokens(query) if t in features.vocabulary_]
    assert columns
    scores = matrix[:, columns].sum(axis=1).A1
    hits = index.search(query, k=len(TEXTS), model=fastseq.BM25(k1=0.9, b=0.4))
    found = np.zeros(len(TEXTS))
    found[hits.rows[0][hits.rows[0] >= 0]] = hits.scores[0][hits.rows[0] >= 0]
    np.testing.assert_allclose(found, scores, rtol=1e-5)
    assert features.average_length_ == sum(len(analyzer.tokens(t)) for t in TEXTS) / len(TEXTS)


def test_bm25_without_length_or_saturation() -> None:
    matrix = BM25Features(k1=0, b=0).fit_transform(["aa aa bb", "aa"])
    assert matrix.toarray() == pytest.approx(np.log([[1.2, 2], [1.2, 1]]))


# ---- scikit-learn's protocol


def test_scikit_learn_accepts_them_as_estimators() -> None:
    texts = ["good film", "bad film", "good fun", "bad bore"] * 5
    model = make_pipeline(TfidfFeatures(ngrams=(1, 2)), LogisticRegression())
    assert model.fit(texts, [1, 0, 1, 0] * 5).score(texts, [1, 0, 1, 0] * 5) == 1.0
    assert isinstance(repr(model), str)
    first = TfidfFeatures(norm="l1", ngrams=(1, 2), stopwords="lucene").fit(texts)
    second = clone(first)
    assert second.get_params() == first.get_params()
    with pytest.raises(FastseqError, match="not fitted"):
        second.transform(texts)


def test_parameters() -> None:
    features = TfidfFeatures(norm=None, ngrams=(1, 2))
    assert features.get_params()["norm"] is None
    assert features.get_params()["ngrams"] == (1, 2)
    assert features.set_params(min_df=2, stemmer="english") is features
    assert (features.min_df, features.get_params()["stemmer"]) == (2, "english")
    assert repr(features) == "TfidfFeatures(norm=None, min_df=2, stemmer='english', ngrams=(1, 2))"
    for wrong in ({"ngram_range": (1, 2)}, {"k1": 1}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            TfidfFeatures(**wrong)
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            features.set_params(**wrong)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (CountFeatures(min_df=0), "min_df"),
        (CountFeatures(min_df=1.5), "min_df"),
        (CountFeatures(max_df=True), "max_df"),
        (CountFeatures(max_df="2"), "max_df"),
        (CountFeatures(max_df=1, min_df=2), "max_df"),
        (CountFeatures(max_features=0), "max_features"),
        (CountFeatures(binary="yes"), "binary"),
        (CountFeatures(dtype=str), "dtype"),
        (CountFeatures(analyzer="word"), "analyzer"),
        (CountFeatures(analyzer=fastseq.Analyzer(), ngrams=(1, 2)), "ngrams"),
        (CountFeatures(tokenizer="words"), "tokenizer"),
        (CountFeatures(threads=0), "threads"),
        (TfidfFeatures(norm="l3"), "norm"),
        (TfidfFeatures(use_idf=1), "use_idf"),
        (TfidfFeatures(dtype=np.int64), "dtype"),
        (TfidfFeatures(dtype="nonsense"), "dtype"),
        (BM25Features(k1=-1), "k1"),
        (BM25Features(b=1.1), "b must"),
        (BM25Features(b=float("nan")), "b must"),
    ],
)
def test_wrong_settings_are_named_when_fitted(features: Features, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        features.fit(["aa bb", "bb"])


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["aa", None], "text 1"),
        (["aa", b"bb"], "bytes"),
        ([], "no terms"),
        (["", "a ."], "no terms"),
        (["aa \ud800"], "row 0"),
        (pa.array([1, 2]), "int64"),
        ("no-such.parquet", "no-such.parquet"),
        (pa.table({"x": [1]}), "column"),
    ],
)
def test_wrong_texts_are_named(texts: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        CountFeatures().fit(texts)
    with pytest.raises(SettingsError, match="int"):
        CountFeatures().fit(7)


def test_failed_fit_keeps_the_old_one() -> None:
    features = CountFeatures(threads=2).fit(["aa bb"])

    def texts() -> Any:
        yield from TEXTS
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        features.fit(texts())
    broken = [*TEXTS, "\udfff", *TEXTS]
    with pytest.raises(DataError, match=rf"row {len(TEXTS)} .from 0.:"):
        features.fit(broken)
    assert list(features.get_feature_names_out()) == ["aa", "bb"]
    assert CountFeatures(on_invalid="replace").fit(broken).documents_ == len(broken)


def test_pruning_every_term_is_an_error() -> None:
    with pytest.raises(DataError, match="lower min_df"):
        CountFeatures(min_df=2).fit(["aa", "bb"])


def test_no_texts_to_transform() -> None:
    features = TfidfFeatures().fit(["aa bb", "bb"])
    assert features.transform([]).shape == (0, 2)
    assert features.transform(["", "zz"]).nnz == 0


# ---- saving


@pytest.mark.parametrize(
    "features",
    [
        CountFeatures(binary=True, dtype=np.int32, max_df=0.9),
        TfidfFeatures(norm="l1", sublinear_tf=True, ngrams=(1, 2), stopwords=STOP),
        BM25Features(k1=2.0, b=0.1, dtype=np.float32, min_df=2),
    ],
)
def test_saved_features_are_the_same(features: Features, tmp_path: Path) -> None:
    expected = features.fit(TEXTS).transform(OTHERS)
    features.save(tmp_path / "saved")
    for kind in (type(features), Features):
        loaded = kind.load(tmp_path / "saved")
        assert type(loaded) is type(features)
        found = loaded.transform(OTHERS)
        assert found.dtype == expected.dtype
        assert (found != expected).nnz == 0
        assert list(loaded.get_feature_names_out()) == list(features.get_feature_names_out())
    with pytest.raises(SettingsError, match="overwrite"):
        features.save(tmp_path / "saved")
    features.save(tmp_path / "saved", overwrite=True)
    others = {CountFeatures, TfidfFeatures, BM25Features} - {type(features)}
    for kind in others:
        with pytest.raises(FormatError, match=features.method):
            kind.load(tmp_path / "saved")


def test_features_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(FastseqError, match="not fitted"):
        CountFeatures().save(tmp_path / "a")
    with pytest.raises(SettingsError, match="function"):
        CountFeatures(tokenizer=str.split).fit(TEXTS).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_import_is_cheap() -> None:
    code = (
        "import sys, fastseq; fastseq.TfidfFeatures; "
        "print(sorted({'numba', 'scipy', 'pyarrow', 'sklearn'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_matrix_is_an_ordinary_csr_matrix(tmp_path: Path) -> None:
    matrix = CountFeatures().fit_transform(TEXTS)
    assert scipy.sparse.issparse(matrix)
    assert (matrix.indices.dtype, matrix.indptr.dtype) == (np.int32, np.int32)
    assert (matrix @ matrix.T).shape == (len(TEXTS), len(TEXTS))
