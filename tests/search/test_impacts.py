"""Indexes of impacts: documents are terms with weights, searched by the dot product."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastseq
from fastseq import BM25, RM3, BoW, DataError, Dot, FormatError, Index, SettingsError
from fastseq import query as q
from fastseq.index import VERSION
from fastseq.index import build as build_module
from fastseq.index.slices import SliceStore
from fastseq.store.folder import read_manifest

Document = Mapping[str, float]
TERMS = ["cat", "dog", "a b", "##ing", "é", "", "x1", "x2", "x3"]


def table(documents: Mapping[Any, Document | None], kind: Any = "float64") -> pa.Table:
    pairs = [None if each is None else list(each.items()) for each in documents.values()]
    return pa.table({
        "id": list(documents), "impacts": pa.array(pairs, pa.map_("string", kind)),
        "even": [number % 2 == 0 for number in range(len(documents))],
    })  # fmt: skip


def naive_search(
    documents: Mapping[Any, Document | None], query: Mapping[str, float]
) -> list[tuple[Any, float]]:
    """Each document that has a term of the query and their dot product, the best first."""
    found = []
    for id, document in documents.items():
        own = {
            term: float(np.float32(weight))
            for term, weight in (document or {}).items()
            if np.float32(weight) > 0
        }
        if own.keys() & query.keys():
            found.append((id, sum(query[term] * own[term] for term in own.keys() & query.keys())))
    return sorted(found, key=lambda hit: -hit[1])


def hits_of(hits: fastseq.Hits, number: int = 0) -> list[tuple[Any, float]]:
    return list(zip(hits.ids[number], hits.scores[number].tolist(), strict=False))


def assert_equal(
    hits: Sequence[tuple[Any, float]], ranked: Sequence[tuple[Any, float]], k: int
) -> None:
    """The hits have the scores of the k best of all ranked documents, in descending order; ids may
    be in another order where scores are within a rounding error."""
    every = dict(ranked)
    scale = max([abs(score) for score in every.values()], default=0.0)
    tolerance = 1e-5 * scale + 1e-30
    assert [score for _, score in hits] == pytest.approx(
        [score for _, score in ranked[:k]], rel=1e-5, abs=tolerance
    )
    for id, score in hits:
        assert score == pytest.approx(every[id], rel=1e-5, abs=tolerance)
    assert len({id for id, _ in hits}) == len(hits)


weights = st.one_of(
    st.floats(0, 1e3, width=32), st.integers(0, 300).map(float), st.floats(0, 1e-5),
    st.sampled_from([0.0, 1e-46, 1e-9, 1e15, 0.1]),
)  # fmt: skip
documents_of = st.lists(
    st.one_of(st.none(), st.dictionaries(st.sampled_from(TERMS), weights, max_size=6)), max_size=12
)
queries_of = st.dictionaries(
    st.sampled_from([*TERMS, "unknown"]),
    st.one_of(st.floats(1e-3, 100), st.floats(-10, 10), st.just(0.0)), max_size=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(documents_of, min_size=1, max_size=4).filter(lambda parts: len(parts[0]) > 0),
    st.lists(queries_of, min_size=1, max_size=4), st.sets(st.integers(0, 40)), st.integers(1, 5),
    st.booleans(),
)  # fmt: skip
def test_hits_are_those_of_dot_products_after_any_changes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[Document | None]],
    queries: list[dict[str, float]], deleted: set[int], k: int, whole: bool,
) -> None:  # fmt: skip
    if whole:
        parts = [
            [each and {t: min(round(w), 2**31 - 1) for t, w in each.items()} for each in part]
            for part in parts
        ]
    kind = pa.int64() if whole else pa.float64()
    own = dict(enumerate(parts[0]))
    path = tmp_path_factory.mktemp("impacts") / "index"
    index = Index.build(table(own, kind), path, impacts="impacts", threads=1)
    for part in parts[1:]:
        first = max(own) // 2  # some replace documents
        new = dict(enumerate(part, first))
        if new:
            index.add(table(new, kind), threads=1)
        own = {id: each for id, each in own.items() if id not in new} | new
    gone = [id for id in deleted if id in own]
    index.delete(gone)
    own = {id: each for id, each in own.items() if id not in gone}
    compacted = False
    while True:
        hits = index.search(queries, k)
        for number, query in enumerate(queries):
            ranked = naive_search(own, query)
            assert_equal(hits_of(hits, number), ranked, k)
            assert index.count(query) == len(ranked)
        if compacted or not own:
            break
        index.compact()
        again = index.search(queries, k)
        assert again.ids == hits.ids
        assert again.scores.tobytes() == hits.scores.tobytes()
        fresh = Index.build(
            table(own, kind), path.with_name("fresh"), impacts="impacts", threads=2, overwrite=True
        ).search(queries, k)
        assert fresh.ids == hits.ids
        assert fresh.scores.tobytes() == hits.scores.tobytes()
        compacted = True


def many(seed: int, documents: int, whole: bool) -> dict[int, dict[str, float]]:
    rng = np.random.default_rng(seed)
    found = {}
    for id in range(documents):
        terms = np.unique(rng.zipf(1.3, 30) % 500)
        own = rng.gamma(2.0, 0.7, len(terms)).astype(np.float32)
        if whole:
            own = np.ceil(own * 100)
        found[id] = {f"t{term}": float(weight) for term, weight in zip(terms, own, strict=True)}
    return found


@pytest.mark.parametrize("whole", [False, True])
def test_many_documents_with_pruning(tmp_path: Path, whole: bool) -> None:
    own = many(1, 4000, whole)
    kind = pa.int32() if whole else pa.float32()
    index = Index.build(table(own, kind), tmp_path / "index", impacts="impacts")
    rng = np.random.default_rng(2)
    queries = [
        {f"t{term}": float(weight) for term, weight in zip(
            np.unique(rng.zipf(1.3, 40) % 500), rng.gamma(2.0, 1.0, 40), strict=False
        )}
        for _ in range(8)
    ]  # fmt: skip
    ranked = [naive_search(own, query) for query in queries]
    for k in (1, 10, 1000):
        hits = index.search(queries, k)
        for number, every in enumerate(ranked):
            assert_equal(hits_of(hits, number), every, k)
    filtered = index.search(queries, 10, filter="even = true")
    for number, every in enumerate(ranked):
        even = [(id, score) for id, score in every if id % 2 == 0]
        assert_equal(hits_of(filtered, number), even, 10)
    # the clause-by-clause evaluation adds the same numbers
    for query, every in zip(queries[:5], ranked, strict=False):
        value = q.Boolean(should=[
            q.Boost(
                q.Boolean(should=[q.Term(term)], filter=[q.All()], minimum_should_match=1), weight
            )
            for term, weight in query.items()
        ])  # fmt: skip
        assert_equal(hits_of(index.search(value, 10)), every, 10)
        explained = index.explain(value, hits_of(index.search(value, 1))[0][0])
        assert explained.value == pytest.approx(every[0][1], rel=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_bytes_do_not_depend_on_memory_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    own = table(many(3, 1000, whole), pa.int32() if whole else pa.float32())
    made = []
    spilled: list[int] = []
    spill = SliceStore.spill

    def counted(store: SliceStore) -> None:
        spilled.append(len(store.slices))
        spill(store)

    for number, threads in enumerate((1, 2)):
        index = Index.build(own, tmp_path / str(number), impacts="impacts", threads=threads)
        made.append({name: entry["crc32"] for name, entry in index.info()["files"].items()})
        if number == 0:  # then with slices of a few documents, on disk
            monkeypatch.setattr(build_module, "_FIXED", 0)
            monkeypatch.setattr(build_module, "memory_budget", lambda memory: 1 << 16)
            monkeypatch.setattr(build_module, "_SMALLEST_SLICE", 1 << 10)
            monkeypatch.setattr(build_module, "_LARGEST_SLICE", 16 << 10)
            monkeypatch.setattr(SliceStore, "spill", counted)
    assert made[0] == made[1]
    assert len(spilled) > 1


def test_files_batches_and_types_of_columns(tmp_path: Path) -> None:
    """Several files, maps and lists of structs in any order, with every type of numbers."""
    import pyarrow.parquet as pq

    pairs = [[("cat", 1), ("dog", 2)], None, [], [("dog", 3)]]
    kinds: list[pa.DataType] = [
        pa.map_(pa.large_string(), pa.int8()),
        pa.list_(pa.struct([("term", pa.string()), ("weight", pa.float32())])),
        pa.large_list(pa.struct([("w", pa.decimal128(5, 1)), ("t", pa.binary())])),
        pa.map_(pa.dictionary(pa.int32(), pa.string()), pa.uint64()),
    ]
    for number, kind in enumerate(kinds):
        rows: Any = pairs
        if not pa.types.is_map(kind):
            names = [field.name for field in kind.value_type]
            ordered = pairs if names[0] == "term" else [
                each and [(weight, term.encode()) for term, weight in each] for each in pairs
            ]  # fmt: skip
            rows = [
                each and [dict(zip(names, pair, strict=True)) for pair in each] for each in ordered
            ]
        plain = pa.map_(pa.string(), kind.item_type) if number == 3 else kind
        array = pa.array(rows, plain)
        ids = [f"{number}{letter}" for letter in "abcd"]
        pq.write_table(pa.table({"id": ids, "impacts": array}), tmp_path / f"{number}.parquet")
    index = Index.build(tmp_path, tmp_path / "index", impacts="impacts")
    assert index.info()["settings"]["impacts"] == {"column": "impacts", "weights": "float"}
    hits = index.search({"cat": 1.0, "dog": 1.0}, 20)
    expected = [(f"{n}a", 3.0) for n in range(4)] + [(f"{n}d", 3.0) for n in range(4)]
    assert sorted(hits_of(hits)) == sorted(expected)
    assert index.summary["null_texts"] == 4
    # a slice of a table, whose first rows and null maps have entries
    whole = pa.array([[("no", 9)], [("cat", 2)], [("yes", 1)]], pa.map_(pa.string(), pa.int64()))
    index = Index.build(
        pa.table({"id": [1, 2, 3], "impacts": whole}).slice(1), tmp_path / "slice",
        impacts="impacts",
    )  # fmt: skip
    assert hits_of(index.search({"no": 1.0, "cat": 1.0, "yes": 1.0})) == [(2, 2.0), (3, 1.0)]


def test_python_dicts_and_repeated_terms(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "impacts": {"cat": 1.5, "dog": 0.0}}, {"id": 2, "impacts": None},
        {"id": 3, "impacts": {}}, {"id": 4, "impacts": {"dog": 2}},
    ]  # fmt: skip
    index = Index.build(rows, tmp_path / "index", impacts="impacts")
    assert hits_of(index.search("cat dog")) == [(4, 2.0), (1, 1.5)]
    index.add([{"id": 5, "impacts": {"bird": 7, "cat": 1}}])
    assert hits_of(index.search("cat bird")) == [(5, 8.0), (1, 1.5)]
    twice = pa.array([[("a", 0.25), ("b", 1.0), ("a", 0.5)]], pa.map_(pa.string(), pa.float32()))
    index = Index.build(
        pa.table({"id": [1], "impacts": twice}), tmp_path / "twice", impacts="impacts"
    )
    assert hits_of(index.search({"a": 2.0})) == [(1, 1.5)]
    assert index.summary["postings"] == 2


def test_whole_weights_are_term_frequencies(tmp_path: Path) -> None:
    """They are exact up to the largest, and in a CIFF file."""
    most = 2**31 - 1
    own = {"a": {"x": 1.0, "y": 14.0}, "b": {"x": 15.0, "y": 255.0}, "c": {"x": float(most)}}
    index = Index.build(table(own, pa.int64()), tmp_path / "index", impacts="impacts")
    assert index.info()["settings"]["impacts"]["weights"] == "integer"
    index.to_ciff(tmp_path / "index.ciff")
    other = Index.from_ciff(tmp_path / "index.ciff", tmp_path / "imported")
    for query in ({"x": 1.0}, {"y": 0.5}, {"x": 2.0, "y": 3.0}):
        assert_equal(hits_of(index.search(query)), naive_search(own, query), 10)
        assert hits_of(other.search(query, model=BoW())) == hits_of(index.search(query))
    with pytest.raises(DataError, match=r"row 0.*'x'.* 1.5; expected a whole number"):
        index.add(table({"d": {"x": 1.5}}))
    index.add(table({"d": {"x": 2.0}}))
    assert hits_of(index.search({"x": 1.0}, 10))[-2:] == [("d", 2.0), ("a", 1.0)]


def test_values_of_queries(tmp_path: Path) -> None:
    own = {
        "a": {"cat": 1.5, "dog": 0.5}, "b": {"cat": 0.25, "cats": 2.0}, "c": {"dog": 3.0},
        "d": {"bird": 1.0},
    }  # fmt: skip
    index = Index.build(table(own), tmp_path / "index", impacts="impacts")

    def found(query: Any, **given: Any) -> list[tuple[Any, float]]:
        return hits_of(index.search(query, **given))

    assert found("cat^2 dog", syntax="query") == [("a", 3.5), ("c", 3.0), ("b", 0.5)]
    assert found("cat cat dog") == [("a", 3.5), ("c", 3.0), ("b", 0.5)]
    assert found("+cat -dog", syntax="query") == [("b", 0.25)]
    assert found("cat dog", operator="and") == [("a", 2.0)]
    assert found("cat*", syntax="query") == [("b", 2.25), ("a", 1.5)]
    assert found("cats~1", syntax="query") == [("b", pytest.approx(2 + 0.25 * 2 / 3)), ("a", 1.0)]
    assert found(q.Synonyms(["cat", "dog"])) == [("c", 3.0), ("a", 2.0), ("b", 0.25)]
    assert found(q.ConstantScore(q.Term("dog"), 2.0)) == [("a", 2.0), ("c", 2.0)]
    query = q.Boolean(must=[q.Term("dog")], filter=[q.Filter("even = true")])
    assert found(query) == [("c", 3.0), ("a", 0.5)]
    query = q.Boolean(should=[q.Term("dog")], must_not=[q.Boost(q.Term("cat"), 3)])
    assert found(query) == [("c", 3.0)]
    assert found("dog", model=Dot()) == [("c", 3.0), ("a", 0.5)]
    assert found("dog", sort="-id") == [("c", 3.0), ("a", 0.5)]
    assert index.unknown_words("cat wolf") == ["wolf"]
    tree = index.explain("cat dog", "a")
    assert str(tree).splitlines() == [
        "2 = sum of:",
        "  1.5 = 'cat', weight · part of:",
        "    1 = weight in the query",
        "    1.5 = weight in the document",
        "  0.5 = 'dog', weight · part of:",
        "    1 = weight in the query",
        "    0.5 = weight in the document",
    ]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("impacts") / "index"
    return Index.build(table({"a": {"cat": 1.5, "dog": 1.0}}), path, impacts="impacts")


def test_what_has_no_meaning_is_an_error(small: Index, tmp_path: Path) -> None:
    for model in (BM25(), BoW()):
        with pytest.raises(SettingsError, match="searched with the model Dot"):
            small.search("cat", model=model)
    texts = Index.build(["a cat"], tmp_path / "texts")
    with pytest.raises(SettingsError, match="Dot is for an index of impacts"):
        texts.search("cat", model=Dot())
    for query in (
        q.Phrase("cat dog"), q.Near(["cat", "dog"], 3), q.Synonyms(["cat dog", "bird"]),
    ):  # fmt: skip
        with pytest.raises(DataError, match="an index of impacts has no positions"):
            small.search(query)
    with pytest.raises(SettingsError, match="feedback is not for an index of impacts"):
        small.search("cat", feedback=RM3())
    with pytest.raises(SettingsError, match="more_like is not for an index of impacts"):
        small.more_like("a")
    with pytest.raises(DataError, match="an index of impacts has no text"):
        small.search("cat").snippets()
    with pytest.raises(DataError, match="weights are not whole numbers"):
        small.to_ciff(tmp_path / "x.ciff")
    for name, given_value in (
        ("text_columns", ["id"]), ("fields", ["id"]), ("analyzer", fastseq.Analyzer()),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=f"{name} cannot be combined with impacts"):
            Index.build(
                table({}), tmp_path / "no", impacts="impacts", **{name: given_value}  # type: ignore[arg-type]
            )
    with pytest.raises(SettingsError, match="impacts"):
        Index.build(table({}), tmp_path / "no", impacts=3)  # type: ignore[arg-type]


FLOAT_MAP = pa.map_(pa.string(), pa.float64())
PAIRS = pa.list_(pa.struct([("t", pa.string()), ("w", pa.float64())]))
BAD: list[tuple[str, list[Any], pa.DataType]] = [
    ("the weight of 'dog' in column 'impacts' is null", [("dog", None)], FLOAT_MAP),
    ("the weight of 'dog' in column 'impacts' is nan; expected a number", [("dog", np.nan)],
     FLOAT_MAP),
    ("is inf; expected", [("dog", np.inf)], FLOAT_MAP),
    ("is -1.0; expected", [("dog", -1.0)], FLOAT_MAP),
    ("is 2000000000000000.0; expected a number from 0 to 1e\\+15", [("dog", 2e15)], FLOAT_MAP),
    ("is 2147483648; expected a whole number from 0 to 2147483647", [("dog", 2**31)],
     pa.map_(pa.string(), pa.int64())),
    ("a term in column 'impacts' is null", [{"t": None, "w": 1.0}], PAIRS),
    ("the weight of 'dog' in column 'impacts' is null", [{"t": "dog", "w": None}], PAIRS),
    ("a term in column 'impacts' is not UTF-8", [{"t": b"\xff", "w": 1.0}],
     pa.list_(pa.struct([("t", pa.binary()), ("w", pa.float64())]))),
    ("the weights of a term add up to more than 2147483647", [("dog", 2**30), ("dog", 2**30)],
     pa.map_(pa.string(), pa.int64())),
]  # fmt: skip


@pytest.mark.parametrize(("message", "pairs", "kind"), BAD)
def test_wrong_weights_name_the_file_and_the_row(
    tmp_path: Path, small: Index, message: str, pairs: list[Any], kind: pa.DataType
) -> None:
    import pyarrow.parquet as pq

    def rows(n: int) -> pa.Table:
        return pa.table({"id": [f"n{i}" for i in range(n)], "impacts": pa.array([[]] * n, kind)})

    wrong = pa.table({"id": ["x", "y"], "impacts": pa.array([[], pairs], kind)})
    pq.write_table(rows(3), tmp_path / "1.parquet")
    pq.write_table(wrong, tmp_path / "2.parquet")
    path = tmp_path / "index"
    with pytest.raises(DataError, match=f"2.parquet: row 1 \\(from 0\\): .*{message}"):
        Index.build(tmp_path, path, impacts="impacts")
    assert not path.exists()
    if "whole" in message or "2147483647" in message:
        return  # an index of float weights takes them
    before = small.info()
    with pytest.raises(DataError, match=f"row 1 \\(from 0\\): .*{message}"):
        small.add(wrong)
    assert Index.open(small.path).info() == before


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1]), pa.array(["a"]), pa.array([{"cat": 1.0}]),
        pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
        pa.array([[(1, 1.0)]], pa.map_(pa.int32(), pa.float32())),
        pa.array([[1.5]]), pa.array([[{"t": "a", "w": 1.0, "x": 1}]]),
    ],
    ids=str,
)  # fmt: skip
def test_columns_of_other_types(tmp_path: Path, column: pa.Array) -> None:
    with pytest.raises(DataError, match=r"'impacts' is .*expected a map from strings"):
        Index.build(
            pa.table({"id": [1], "impacts": column}), tmp_path / "index", impacts="impacts"
        )


def test_the_column_is_stored_only_where_it_is_named(tmp_path: Path) -> None:
    own = {"a": {"cat": 1.5}, "b": {"dog": 2.0}}
    index = Index.build(table(own), tmp_path / "default", impacts="impacts")
    assert index.get("a") == {"id": "a", "even": True}
    index = Index.build(
        table(own), tmp_path / "stored", impacts="impacts", store=["impacts", "even"]
    )
    index.add(table({"c": {"cat": 9.0}}))
    assert index.get("c") == {"id": "c", "impacts": [("cat", 9.0)], "even": True}
    assert hits_of(index.search("cat")) == [("c", 9.0), ("a", 1.5)]


def test_earlier_versions_refuse_the_format(small: Index) -> None:
    assert small.info()["format_version"] == 4
    with pytest.raises(FormatError, match=r"format version 4"):
        read_manifest(Path(small.path), "index", range(1, VERSION + 1))


def test_damaged_weights_are_an_error(tmp_path: Path) -> None:
    own = {n: {"cat": 1.0 + n} for n in range(50)}
    Index.build(table(own), tmp_path / "index", impacts="impacts")
    (file,) = (tmp_path / "index").glob("data-*/segment-*")
    raw = bytearray(file.read_bytes())
    at = raw.find(np.arange(1, 51, dtype=np.float32).tobytes())
    raw[at + 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(FormatError, match="posting_weights"):
        Index.open(tmp_path / "index").search("cat")


@pytest.mark.parametrize("wrapped", [False, True], ids=["flat", "by clauses"])
def test_tiny_weights_are_hits_all_the_same(tmp_path: Path, wrapped: bool) -> None:
    """A document is a hit whatever its score, also where that is 0 in float32."""
    chance = random.Random(1)
    terms = ["a", "b", "c", "d"]
    for trial in range(10):
        own = {
            id: {t: chance.choice([1e-9, 1e-44, 0.5, 2.0]) for t in terms if chance.random() < 0.5}
            for id in range(30)
        }
        index = Index.build(
            table(own), tmp_path / str(trial), impacts="impacts", threads=1
        )
        for _ in range(10):
            roles = {term: chance.choice(["must", "should", "must_not", ""]) for term in terms}
            weights = {term: chance.choice([1.0, 2.5, 1e-30]) for term in terms}
            parts: dict[str, list[q.Query]] = {"must": [], "should": [], "must_not": []}
            for term, role in roles.items():
                part: q.Query = q.Term(term)
                if wrapped:
                    part = q.Boolean(should=[part], filter=[q.All()], minimum_should_match=1)
                if role:
                    parts[role].append(q.Boost(part, weights[term]))
            wanted = {term for term, role in roles.items() if role in ("must", "should")}
            required = {term for term, role in roles.items() if role == "must"}
            if not wanted:
                continue
            refused = {term for term, role in roles.items() if role == "must_not"}
            expected = {
                id: sum(weights[term] * float(np.float32(each[term])) for term in wanted & {*each})
                for id, each in own.items()
                if required <= each.keys() and not refused & each.keys() and wanted & each.keys()
            }
            value = q.Boolean(**parts)  # type: ignore[arg-type]
            hits = dict(hits_of(index.search(value, k=30)))
            assert hits.keys() == expected.keys()
            assert hits == pytest.approx(expected, rel=1e-5, abs=1e-6)
            assert index.count(value) == len(expected)
