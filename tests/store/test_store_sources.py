"""Folders of Parquet: Hive partitions, files with different columns, files that are skipped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from fastseq.errors import DataError, FastseqWarning
from fastseq.store.data_files import find_files
from fastseq.store.dataset import open_sources
from fastseq.store.rows import Corpus, open_rows


def written(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def read(source: Any, **options: Any) -> pa.Table:
    return pa.concat_tables([b.kept for b in Corpus.open(source, **options).batches()])


# ---- Hive partitions


@pytest.mark.parametrize(
    "folders",
    [
        ["lang=en/year=2020", "lang=de/year=2021"],
        ["n=1", "n=007", "n=-5"],
        ["n=1", "n=x"],
        ["n=+5", "n= 6"],
        ["n=1", "n=__HIVE_DEFAULT_PARTITION__"],
        ["s=", "s=b%20c", "s=%C3%A9+f", "s=a=b"],
        ["a%3Db=1", "a%3Db=2"],
        ["n=1/n=2"],
        ["plain/n=1", "plain/n=2"],
    ],
)
def test_hive_partitions_are_read_as_pyarrow_reads_them(
    folders: Sequence[str], tmp_path: Path
) -> None:
    for number, folder in enumerate(folders):
        written(tmp_path / folder / f"{number}.parquet", text=[f"t{number}"])
    expected = ds.dataset(tmp_path, partitioning="hive").to_table()
    assert read(tmp_path).sort_by("text").to_pydict() == expected.sort_by("text").to_pydict()
    assert Corpus.open(tmp_path).stored_schema.types == expected.schema.types


def test_hive_partition_columns_are_stored(tmp_path: Path) -> None:
    written(tmp_path / "lang=en" / "year=2020" / "part-0.parquet", id=["a"], text=["hello"])
    written(tmp_path / "lang=de" / "year=3000000000" / "part-0.parquet", id=["b"], text=["hallo"])
    expected = {
        "id": ["b", "a"],
        "text": ["hallo", "hello"],
        "lang": ["de", "en"],
        "year": [3_000_000_000, 2020],
    }
    assert read(tmp_path).to_pydict() == expected
    several = sorted(tmp_path.glob("lang=*"))
    assert read(several).to_pydict() == expected, "below the folder that several have in common"
    assert read(str(tmp_path / "lang=*")).to_pydict() == expected
    assert read(str(tmp_path / "lang=*" / "*" / "*.parquet")).to_pydict() == expected
    alone = read(several[1])
    assert alone.schema.names == ["id", "text", "year"], "what is above the folder given is no key"
    chosen = read(tmp_path, store=["lang"]).to_pydict()
    assert chosen == {"id": ["b", "a"], "lang": ["de", "en"]}


def test_partition_without_a_known_value_is_null(tmp_path: Path) -> None:
    written(tmp_path / "lang=__HIVE_DEFAULT_PARTITION__" / "a.parquet", text=["a"])
    assert read(tmp_path).to_pydict() == {"text": ["a"], "lang": [None]}


def test_partitions_are_not_guessed_as_id_text_or_label(tmp_path: Path) -> None:
    written(tmp_path / "id=7" / "topic=news" / "a.parquet", body=["a"], stars=[1])
    corpus = Corpus.open(tmp_path)
    assert (corpus.id_column, corpus.text_columns) == (None, ("body",))
    assert Corpus.open(tmp_path, "id").id_column == "id"
    assert Corpus.open(tmp_path, text_columns="topic").text_columns == ("topic",)
    fields = open_rows(tmp_path, "text").fields
    assert (fields.id, fields.text, fields.label) == (None, ("body",), "stars")


def test_folders_called_label_are_labels(tmp_path: Path) -> None:
    for label in ("pos", "neg"):
        written(tmp_path / f"label={label}" / "a.parquet", text=[label])
    batches = list(open_rows(tmp_path, "text").batches())
    assert [b.labels.to_list() for b in batches if b.labels] == [["neg"], ["pos"]]


def test_column_of_the_file_comes_before_its_partition(tmp_path: Path) -> None:
    written(tmp_path / "n=1" / "a.parquet", text=["a"], n=[5])
    written(tmp_path / "n=2" / "b.parquet", text=["b"])
    assert read(tmp_path).to_pydict() == {"text": ["a", "b"], "n": [5, 2]}


def test_partition_alone_is_read(tmp_path: Path) -> None:
    written(tmp_path / "text=x" / "a.parquet", n=[1, 2])
    (batch,) = Corpus.open(tmp_path, text_columns="text", store="text").batches()
    assert batch.texts is not None
    assert batch.texts.to_strings() == ["x", "x"]


# ---- files that differ


def test_columns_are_united_by_name_in_any_order_of_the_files(tmp_path: Path) -> None:
    files = [
        written(tmp_path / "a.parquet", text=["a"], n=pa.array([1], pa.int8()), x=["p"]),
        written(tmp_path / "b.parquet", y=[2.5], text=["b"], n=pa.array([2.5], pa.float32())),
        written(tmp_path / "c.parquet", text=["c"], n=pa.array([70_000], pa.int32()), l=[["z"]]),
        written(tmp_path / "d.parquet", text=["d"], x=pa.array(["q"]).dictionary_encode()),
    ]
    expected = [
        {"text": "a", "n": 1, "x": "p", "y": None, "l": None},
        {"text": "b", "n": 2.5, "x": None, "y": 2.5, "l": None},
        {"text": "c", "n": 70_000, "x": None, "y": None, "l": ["z"]},
        {"text": "d", "n": None, "x": "q", "y": None, "l": None},
    ]
    for order in permutations(range(4)):
        table = read([files[i] for i in order])
        assert table.schema.field("n").type == pa.float64()
        assert [{k: row[k] for k in expected[0]} for row in table.to_pylist()] == [
            expected[i] for i in order
        ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], ["x"]),
        ([True], [1]),
        ([["x"]], ["x"]),
        ([b"x"], ["x"]),
        ([{"a": 1}], [1]),
    ],
)
def test_incompatible_types_name_both_files_in_any_order(
    one: Any, other: Any, tmp_path: Path
) -> None:
    files = [
        written(tmp_path / "a.parquet", text=["a"], n=one),
        written(tmp_path / "b.parquet", text=["b"], n=other),
        written(tmp_path / "c.parquet", text=["c"], n=pa.nulls(1)),
    ]
    kinds = [str(pa.array(values).type).split("<")[0] for values in (one, other)]
    for order in permutations(files):
        with pytest.raises(DataError, match="the column 'n' is") as error:
            Corpus.open(order)
        for said in ("a.parquet", "b.parquet", *kinds):
            assert said in str(error.value)
        assert Corpus.open(order, store=[]).num_rows == 3, "not asked for"


def test_value_that_a_wider_column_cannot_hold_is_named(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", text=["a"], n=[0.5])
    written(tmp_path / "b.parquet", text=["b"] * 3, n=[1, 2, 2**53 + 1])
    with pytest.raises(DataError, match=r"b\.parquet: row 2 .from 0.: column 'n': a value of type"):
        read(tmp_path)


def test_columns_read_must_be_in_every_file(tmp_path: Path) -> None:
    a = written(tmp_path / "a.parquet", text=["a"], label=["x"], title=["t"])
    b = written(tmp_path / "b.parquet", text=["b"], title=["u"])
    c = written(tmp_path / "c.parquet", title=["v"], label=["y"])
    for order in ([a, b], [b, a]):
        with pytest.raises(DataError, match=r"b\.parquet: no column 'label', which .*a\.parquet"):
            open_rows(order, "text")
    for order in ([a, c], [c, a]):
        with pytest.raises(DataError, match=r"c\.parquet: no column 'text', which .*a\.parquet"):
            Corpus.open(order)
        corpus = Corpus.open(order, text_columns=["title", "text"])
        texts = [text for b in corpus.batches() if b.texts for text in b.texts.to_strings()]
        assert sorted(texts) == ["t a", "v "]


def test_label_missing_in_some_files_is_null_in_kept_columns(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", text=["a"], label=["x"])
    written(tmp_path / "b.parquet", text=["b"])
    reader = open_rows(tmp_path, "text", keep="label", targets=False)
    assert [b.kept.to_pydict() for b in reader.batches()] == [{"label": ["x"]}, {"label": [None]}]


# ---- what is not read


def test_suffixes_in_capitals_are_read_and_other_files_reported(tmp_path: Path) -> None:
    written(tmp_path / "b.PARQUET", text=["b"])
    written(tmp_path / "sub" / "c.Parquet", text=["c"])
    (tmp_path / "sub" / "notes.txt").write_text("x")
    (tmp_path / "empty.parquet").touch()
    for hidden in ("_SUCCESS", ".b.PARQUET.crc", "_metadata.parquet"):
        (tmp_path / hidden).write_text("x")
    with pytest.warns(FastseqWarning, match=r"2 files skipped.*empty\.parquet, …") as caught:
        assert read(tmp_path).to_pydict() == {"text": ["b", "c"]}
    assert len(caught) == 1
    (tmp_path / "empty.parquet").unlink()
    with pytest.warns(FastseqWarning, match=r"1 file skipped.*notes\.txt$"):
        open_sources(tmp_path)
    (tmp_path / "sub" / "notes.txt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_sources(tmp_path)


def test_empty_file_that_is_named_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(DataError, match="an empty file, expected Parquet, JSON Lines"):
        open_sources(tmp_path / "empty.parquet")
    with pytest.raises(DataError, match=r"no file of data in this folder"):
        open_sources(tmp_path)


def test_glob_reads_the_folders_that_it_matches(tmp_path: Path) -> None:
    files = [written(tmp_path / name, text=["x"]) for name in ("a.parquet", "sub/b.parquet")]
    written(tmp_path / "_old" / "c.parquet", text=["x"])
    assert [file.path for file in find_files([tmp_path / "*"]).files] == files
