"""fastseq features: files that SciPy and Parquet readers open, --like, errors."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

import fastseq
from tests.cli.conftest import Run, Write

DOCS = ["The cats run", "The dog runs, the DOG!", None, "A café for the cats", "Der café"]
TEXTS = [text or "" for text in DOCS]
NEW = ["cats and dogs", "the the the café", "unheard"]


@pytest.fixture
def docs(write: Write) -> Path:
    return write("docs.parquet", id=["a", "b", "c", "d", "e"], text=DOCS)


@pytest.fixture
def new(write: Write) -> Path:
    return write("new.parquet", id=[7, 8, 9], text=NEW)


def load(path: str) -> Any:
    return scipy.sparse.load_npz(path)


def terms(path: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def test_counts_match_scikit_learn(run: Run, docs: Path) -> None:
    ran = run("features", docs, "-o", "out")
    assert ran.code == 0, ran.err
    expected = CountVectorizer()
    matrix = expected.fit_transform(TEXTS)
    found = load("out.npz")
    assert (found != matrix).nnz == 0
    assert found.dtype == np.int64
    assert terms("out.terms.parquet") == {
        "term": list(expected.get_feature_names_out()),
        "df": (matrix > 0).sum(axis=0).A1.tolist(),
    }
    assert {name: value for name, value in ran.pairs.items() if name != "time"} == {
        "matrix": "out.npz",
        "terms": "out.terms.parquet",
        "rows": "5",
        "columns": "8",
        "values": str(matrix.nnz),
        "null texts": "1",
    }
    assert sorted(p.name for p in Path().iterdir()) == [
        "docs.parquet",
        "out.npz",
        "out.terms.parquet",
    ]


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), {}),
        (("--norm", "l1"), {"norm": "l1"}),
        (("--no-norm",), {"norm": None}),
        (("--norm", "none", "--no-norm"), {"norm": None}),
        (("--no-idf",), {"use_idf": False}),
        (("--no-smooth-idf", "--sublinear-tf"), {"smooth_idf": False, "sublinear_tf": True}),
        (("--binary",), {"binary": True}),
        (("--ngrams", "1-2", "--min-df", "2"), {"ngram_range": (1, 2), "min_df": 2}),
        (("--max-df", "0.5", "--min-df", "0.3"), {"max_df": 0.5, "min_df": 0.3}),
        (("--max-df", "1"), {"max_df": 1}),
        (("--max-features", "1"), {"max_features": 1}),
        (("--keep-case",), {"lowercase": False}),
        (("--fold-accents",), {"strip_accents": "unicode"}),
        (
            ("--tokenizer", "space", "--char-ngrams", "2-3"),
            {"analyzer": "char_wb", "ngram_range": (2, 3)},
        ),
    ],
)
def test_tfidf_matches_scikit_learn(
    run: Run, docs: Path, new: Path, words: tuple[str, ...], settings: dict[str, Any]
) -> None:
    ran = run("features", docs, "--method", "tfidf", "-o", "out.npz", *words)
    assert ran.code == 0, ran.err
    expected = TfidfVectorizer(**settings)
    matrix = expected.fit_transform(TEXTS)
    np.testing.assert_allclose(load("out.npz").toarray(), matrix.toarray(), rtol=1e-12)
    made = terms("out.terms.parquet")
    assert made["term"] == list(expected.get_feature_names_out())
    if settings.get("use_idf", True):
        assert made["idf"] == pytest.approx(expected.idf_, rel=1e-14)
    else:
        assert set(made) == {"term", "df"}
    assert run("features", new, "--like", "out.npz", "-o", "new").code == 0
    np.testing.assert_allclose(
        load("new.npz").toarray(), expected.transform(NEW).toarray(), rtol=1e-12
    )
    assert terms("new.terms.parquet") == made


def test_long_form_has_a_row_per_value(run: Run, docs: Path, new: Path, write: Write) -> None:
    assert run("features", docs, "--method", "bm25", "--k1", "2", "--b", "0.3", "-o", "a").code == 0
    for out, like in (("b.parquet", "a"), ("c.parquet", "b.parquet")):
        assert run("features", docs, "--like", like, "-o", out).code == 0
    matrix = fastseq.BM25Features(k1=2, b=0.3).fit_transform(TEXTS).tocoo()
    names = terms("a.terms.parquet")["term"]
    expected = [
        {"id": "abcde"[row], "term": names[column], "value": value}
        for row, column, value in zip(matrix.row, matrix.col, matrix.data.tolist(), strict=True)
    ]
    for out in ("b.parquet", "c.parquet"):
        found = pq.read_table(out)
        assert found.to_pylist() == expected
        assert found.schema.types == [pa.string(), pa.string(), pa.float64()]
    # ids keep their type; without any it is the row's number
    assert run("features", new, "-o", "d.parquet").code == 0
    assert pq.read_table("d.parquet", columns=["id"]).to_pydict() == {"id": [7, 7, 7, 8, 8, 9]}
    bare = write("bare.parquet", text=["", "bb aa bb"])
    assert run("features", bare, "-o", "e.parquet").code == 0
    assert pq.read_table("e.parquet").to_pylist() == [
        {"row": 1, "term": "aa", "value": 1},
        {"row": 1, "term": "bb", "value": 2},
    ]


def test_options_of_analysis_and_columns_apply(run: Run, write: Write) -> None:
    path = write("x.parquet", url=["u", "v"], title=["On the cats", "猫喜欢"], body=["run", "ran"])
    words = ("--id-column", "url", "--text-column", "title", "--text-column", "body")
    analysis = ("--stopwords", "lucene", "--stemmer", "english")
    assert run("features", path, *words, *analysis, "-o", "o.parquet").code == 0
    found = [(r["id"], r["term"]) for r in pq.read_table("o.parquet").to_pylist()]
    assert found == [("u", "cat"), ("u", "run"), ("v", "ran"), ("v", "喜欢"), ("v", "猫喜")]


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        ((), "C node.js don't", ["don", "js", "node"]),
        (("--language", "german"), "schöne Autos", ["autos", "schon"]),
        (("--normalization", "german"), "schöne schoene", ["schone"]),
        (("--tokenizer", "unicode", "--language", "german"), "Autos C", ["auto", "c"]),
    ],
)
def test_default_tokenizer_is_word(
    run: Run, write: Write, words: tuple[str, ...], text: str, expected: list[str]
) -> None:
    ran = run("features", write("docs.parquet", text=[text]), "-o", "out", *words)
    assert ran.code == 0, ran.err
    assert terms("out.terms.parquet")["term"] == expected


def test_several_batches_give_one_matrix(run: Run, write: Write) -> None:
    texts = [f"word{i % 977} word{i % 31} tail{i}" for i in range(40_000)]
    path = write("big.parquet", text=texts)
    assert run("--threads", "2", "features", path, "-o", "one.npz").code == 0
    assert run("--threads", "1", "features", path, "-o", "two.parquet").code == 0
    matrix = load("one.npz")
    assert (matrix != CountVectorizer().fit_transform(texts)).nnz == 0
    table = pq.read_table("two.parquet")
    coo = matrix.tocoo()
    assert table.column("row").to_numpy().tolist() == coo.row.tolist()
    assert table.column("value").to_numpy().tolist() == coo.data.tolist()


def test_quiet_prints_nothing(run: Run, docs: Path) -> None:
    ran = run("--quiet", "features", docs, "-o", "out")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


# ---- refusals: one line, and nothing is left behind


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "x", "--norm", "l1"), "--norm is for --method tfidf"),
        (("-o", "x", "--method", "bm25", "--binary"), "--binary is for"),
        (("-o", "x", "--method", "tfidf", "--k1", "2"), "--k1 is for --method bm25"),
        (("-o", "x", "--method", "tfidf", "--norm", "l1", "--no-norm"), "contradicts"),
        (("-o", "x", "--min-df", "few"), "few"),
        (("-o", "x", "--method", "bm26"), "bm26"),
        (("-o", "x", "--language", "english", "--stemmer", "english"), "--language"),
        (("-o", "x", "--like", "y", "--ngrams", "1-2"), "--ngrams cannot be given"),
        (("-o", "x", "--like", "y", "--min-df", "2"), "--min-df cannot be given"),
        ((), "-o"),
    ],
)
def test_usage_errors_are_one_line_with_status_2(
    run: Run, docs: Path, words: tuple[str, ...], said: str
) -> None:
    ran = run("features", docs, *words)
    assert ran.code == 2
    assert said in ran.error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "no/such/out"), "no such folder"),
        (("-o", "folder.npz"), "is a folder"),
        (("-o", "docs.parquet"), "is also an input"),
        (("-o", "x", "--like", "y"), "y.terms.parquet: no such file"),
        (("-o", "x", "--like", "docs"), "docs.terms.parquet"),
        (("-o", "x", "--min-df", "9"), "is fewer than --min-df 9"),
        (("-o", "x", "--min-df", "5", "--max-df", "1.0"), "no terms are left"),
        (("-o", "x", "--min-df", "0"), "--min-df is 0"),
        (("-o", "x", "--max-features", "0"), "--max-features must be a whole number"),
        (("-o", "x", "--method", "bm25", "--b", "2"), "b must be"),
        (("-o", "x", "--text-column", "body"), "'body'"),
        (("-o", "x", "--ngrams", "2-1"), "--ngrams"),
        (("-o", "x", "--language", "klingon"), "klingon"),
        (("-o", "x", "--language", "azerbaijani"), "azerbaijani"),
        (("-o", "x", "--min-length", "40"), "no terms"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(
    run: Run, docs: Path, words: tuple[str, ...], said: str
) -> None:
    Path("folder.npz").mkdir()
    before = sorted(Path().rglob("*"))
    content = docs.read_bytes()
    ran = run("features", docs, *words)
    assert ran.code == 1
    assert said in ran.error
    assert sorted(Path().rglob("*")) == before
    assert docs.read_bytes() == content


@pytest.mark.parametrize("out", ["out.npz", "out.parquet"])
def test_full_disk_leaves_the_earlier_output(
    run: Run, docs: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    assert run("features", docs, "-o", out).code == 0
    before = {path: path.read_bytes() for path in Path().iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scipy.sparse, "save_npz", full)
    monkeypatch.setattr(pq.ParquetWriter, "write_batch", full)
    assert "No space left" in run("features", docs, "--method", "tfidf", "-o", out).error
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_invalid_utf8_is_an_error_or_replaced(run: Run, tmp_path: Path) -> None:
    column = pa.array([b"good one", b"bad \xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "x.parquet")
    assert "row 1" in run("features", "x.parquet", "-o", "out").error
    assert not Path("out.npz").exists()
    assert run("features", "x.parquet", "-o", "out", "--on-invalid", "replace").code == 0
    assert run("features", "x.parquet", "-o", "new", "--like", "out").code == 0
    assert (load("new.npz") != load("out.npz")).nnz == 0


def test_like_rejects_another_method(run: Run, docs: Path) -> None:
    assert run("features", docs, "--method", "tfidf", "-o", "a").code == 0
    assert run("features", docs, "--method", "tfidf", "--like", "a", "-o", "b").code == 0
    ran = run("features", docs, "--method", "bow", "--like", "a", "-o", "c")
    assert "contains tfidf features, not bow" in ran.error


def test_damaged_terms_are_a_one_line_error(run: Run, docs: Path) -> None:
    assert run("features", docs, "-o", "a").code == 0
    path = Path("a.terms.parquet")
    whole = path.read_bytes()
    table = pq.read_table(path)
    told = json.loads(table.schema.metadata[b"fastseq"])

    def refused(content: Any, said: str, columns: pa.Table = table) -> None:
        spoilt = columns.replace_schema_metadata({"fastseq": json.dumps(content)})
        pq.write_table(spoilt, path)
        assert said in run("features", docs, "--like", "a", "-o", "b").error

    path.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in run("features", docs, "--like", "a", "-o", "b").error
    pq.write_table(pq.read_table(docs), path)
    assert "not a terms file" in run("features", docs, "--like", "a", "-o", "b").error
    refused(told | {"format_version": 99}, "version 99")
    refused({"format_version": 1}, "damaged")
    refused([], "damaged")
    refused(told | {"settings": {}}, "None features")
    refused(told | {"settings": told["settings"] | {"dtype": "no"}}, "dtype")
    refused(told | {"settings": told["settings"] | {"colour": 1}}, "colour")
    refused(told | {"statistics": {"documents": 1, "tokens": 1}}, "do not fit")
    refused(told, "damaged", table.slice(0, 0))
    refused(told, "damaged", table.set_column(1, "df", pa.nulls(len(table), pa.int64())))
    refused(told, "damaged", table.set_column(0, "term", pa.array(range(len(table)))))
    assert not Path("b.npz").exists()
    path.write_bytes(whole)
    assert run("features", docs, "--like", "a", "-o", "b").code == 0
