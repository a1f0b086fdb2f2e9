"""Labels and their numbers: order, types, unseen ones, weights."""

from __future__ import annotations

import numpy as np
import pytest

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.models.data.labels import LabelBuilder, Labels, unseen_message
from fastseq.types import Categories


def column(*values: object) -> Categories:
    distinct = list(dict.fromkeys(values))
    codes = np.array([distinct.index(value) for value in values], np.int32)
    return Categories(tuple(distinct), codes)  # type: ignore[arg-type]


def learned(*parts: Categories, kind: str = "string") -> Labels:
    builder = LabelBuilder(kind)
    for part in parts:
        builder.add(part)
    return builder.finish()[0]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["b", "a", "c", "a"], "string", ("a", "b", "c")),
        ([10, -2, 9, 9], "int16", (-2, 9, 10)),
        ([True, False, True], "bool", (False, True)),
    ],
)
def test_labels_ascend_and_keep_their_type(
    values: list[object], kind: str, expected: tuple[object, ...]
) -> None:
    builder = LabelBuilder(kind)
    codes, unseen = builder.add(column(*values))
    labels, mapping = builder.finish()
    assert labels.values == expected
    assert unseen == {}
    assert [expected[i] for i in mapping[codes]] == values
    assert labels.counts.tolist() == [values.count(value) for value in expected]
    assert labels.decode(labels.encode(column(*values))[0]).to_list() == values
    again = Labels.from_dict(labels.to_dict())
    assert (again.values, again.type) == (expected, kind)
    assert all(type(a) is type(b) for a, b in zip(again.values, expected, strict=True))


def test_label_ids_do_not_depend_on_batching() -> None:
    assert learned(column("b", "c"), column("a", "b")).values == ("a", "b", "c")
    assert learned(column("b", "c"), column("a", "b")).counts.tolist() == [1, 2, 1]


def test_unused_dictionary_values_are_not_labels() -> None:
    unused = Categories(("a", "b", "c"), np.array([0, 2], np.int32))
    assert learned(unused).values == ("a", "c")


def test_single_label_is_rejected() -> None:
    with pytest.raises(DataError, match=r"a single label, 'x', in 3 rows: nothing to tell apart"):
        learned(column("x", "x", "x"))
    with pytest.raises(DataError, match="no label in 0 rows"):
        learned()
    builder = LabelBuilder("string", "tag")
    builder.add(column("O", "O"))
    with pytest.raises(DataError, match=r"^a single tag, 'O', in 2 tokens"):
        builder.finish()
    with pytest.raises(DataError, match=r"^a\.parquet: a single tag, 'O', in 2 tokens"):
        builder.finish(source="a.parquet")
    with pytest.raises(DataError, match="'x', in 1 row: nothing"):
        learned(column("x"))


def test_unseen_labels_are_counted() -> None:
    labels = learned(column("a", "b"))
    codes, unseen = labels.encode(column("z", "a", "y", "z", "b"))
    assert codes.tolist() == [-1, 0, -1, -1, 1]
    assert unseen == {"z": 2, "y": 1}
    said = unseen_message(unseen, 5)
    assert said == "3 of 5 rows have a label unseen in training: 'z', 'y'"
    assert unseen_message({}, 5) is None
    assert labels.decode(codes).to_list() == [None, "a", None, None, "b"]


def test_labels_of_another_type_are_rejected() -> None:
    labels = learned(column(0, 1), kind="int64")
    for wrong in ("1", True):
        with pytest.raises(DataError, match=r"expected those of training, such as 0 \(int64\)"):
            labels.encode(column(wrong))


def test_class_weights() -> None:
    labels = learned(column("a", "a", "a", "b"))
    assert labels.weights(None) is None
    balanced = labels.weights("balanced")
    assert balanced is not None
    assert balanced.dtype == np.float32
    assert balanced.tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])
    chosen = labels.weights({"b": 2.5})
    assert chosen is not None
    assert chosen.tolist() == [1.0, 2.5]
    numbers = learned(column(1, 2), kind="int64")
    for given in ({2: 3.0}, {"2": 3.0}):
        found = numbers.weights(given)
        assert found is not None
        assert found.tolist() == [1.0, 3.0]
    truths = learned(column(True, False), kind="bool")
    for given in ({True: 3.0}, {"true": 3.0}, {"True": 3.0}, {"TRUE": 3.0}):
        found = truths.weights(given)
        assert found is not None
        assert found.tolist() == [1.0, 3.0]
    with pytest.raises(SettingsError, match="'yes'; the labels are false, true"):
        truths.weights({"yes": 1.0})
    with pytest.raises(SettingsError, match="'A'; the labels are a, b"):
        labels.weights({"A": 1.0})
    with pytest.raises(SettingsError, match="'c'; the labels are a, b"):
        labels.weights({"c": 1.0})
    with pytest.raises(SettingsError, match="must be 0 or more"):
        labels.weights({"a": -1.0})
    with pytest.raises(SettingsError, match="expected balanced"):
        labels.weights("equal")


def test_damaged_labels_are_rejected() -> None:
    saved = learned(column("a", "b")).to_dict()
    for wrong in ({"values": ["a"]}, {"values": ["a", 1]}, {"type": "int64"}, {"counts": None}):
        with pytest.raises(FormatError, match="damaged"):
            Labels.from_dict(saved | wrong)
    with pytest.raises(FormatError, match="damaged"):
        Labels.from_dict({})
