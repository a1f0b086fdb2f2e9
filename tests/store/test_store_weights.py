"""Weights in safetensors: round trips, reproducible bytes, detection of damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fastseq.errors import DataError, FastseqError, FormatError, SettingsError
from fastseq.store.weights import read_weights, write_weights

ARRAYS = {
    "lstm.weight_ih_l0": np.arange(12, dtype=np.float32).reshape(4, 3),
    "bias": np.array([1.5, -0.0, np.inf], np.float32),
    "scalar": np.array(2.5, np.float32),
    "none": np.zeros((0, 4), np.float32),
    '猫 "quoted"\n\x01': np.ones(1, np.float32),
}
METADATA = {f"k{i}": f'é猫\x02"\\{i}' for i in range(12)}


def raw_file(header: object, data: bytes = b"") -> bytes:
    """A safetensors file by the definition of the format."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(kind: str, shape: list[int], data: bytes) -> bytes:
    entry = {"dtype": kind, "shape": shape, "data_offsets": [0, len(data)]}
    return raw_file({"w": entry}, data)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(path, ARRAYS, METADATA)
    arrays, metadata = read_weights(path)
    assert list(arrays) == sorted(ARRAYS)
    assert metadata == METADATA
    assert list(metadata) == sorted(METADATA)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert array.shape == ARRAYS[name].shape
        assert array.tobytes() == ARRAYS[name].tobytes()
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_the_file_follows_the_format(tmp_path: Path) -> None:
    """Read by hand: a length, JSON, then the arrays in the order of their names."""
    path = tmp_path / "w.safetensors"
    write_weights(path, {"b": np.ones(2, np.float32), "a": np.zeros(3, np.float32)}, {"x": "y"})
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    assert header == {
        "__metadata__": {"x": "y"},
        "a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
    }
    assert np.frombuffer(content[end:], "<f4").tolist() == [0, 0, 0, 1, 1]


def test_the_same_bytes_whatever_the_order_and_the_process(tmp_path: Path) -> None:
    write_weights(tmp_path / "a", ARRAYS, METADATA)
    back = dict(reversed(METADATA.items()))
    write_weights(tmp_path / "b", dict(reversed(ARRAYS.items())), back)
    wanted = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == wanted
    code = (
        "import sys; from fastseq.store.weights import *; "
        "write_weights(sys.argv[2], *read_weights(sys.argv[1]))"
    )
    for seed in "12":  # string hashes differ between processes
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "c")],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert (tmp_path / "c").read_bytes() == wanted


def test_the_library_writes_and_reads_the_same(tmp_path: Path) -> None:
    kinds = ("f4", "u8", "i8", "u4", "i4", "u2", "i2", "u1", "i1", "?")
    arrays = {**ARRAYS, **{f"{kind}{n}": np.ones(n, kind) for kind in kinds for n in range(3)}}
    write_weights(tmp_path / "w", arrays, {"k": "v"})
    content = (tmp_path / "w").read_bytes()
    assert content == save(arrays, {"k": "v"})
    found = load(content)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_floats_of_any_width_are_written_as_float32(tmp_path: Path) -> None:
    values = [0.5, -1.25, 1e-3]
    for kind in (np.float16, np.float64, ">f8", ">f4"):
        write_weights(tmp_path / "w", {"w": np.array(values, kind)})
        assert read_weights(tmp_path / "w")[0]["w"].dtype == np.float32
        np.testing.assert_allclose(read_weights(tmp_path / "w")[0]["w"], values, rtol=1e-3)


@pytest.mark.parametrize("kind", ["int64", "uint64", ">i4", "uint8", "int16", "bool"])
def test_integers_keep_their_type(kind: str, tmp_path: Path) -> None:
    values = np.array([[1, 0, 100]], kind)
    write_weights(tmp_path / "w", {"steps": values})
    found = read_weights(tmp_path / "w")[0]["steps"]
    assert found.dtype == np.dtype(kind).newbyteorder("=")
    assert (found == values).all()


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_weights(tmp_path / "w", {"t": array.T, "s": array[::2, 1::3], "r": array[::-1]})
    arrays, metadata = read_weights(tmp_path / "w")
    assert (arrays["t"] == array.T).all()
    assert (arrays["s"] == array[::2, 1::3]).all()
    assert (arrays["r"] == array[::-1]).all()
    assert metadata == {}


def test_no_arrays_at_all(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {}, {"a": "b"})
    assert read_weights(tmp_path / "w") == ({}, {"a": "b"})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("F64", np.array([0.5, -2, 1e-40, np.nan], "<f8").tobytes()),
        ("F32", np.array([0.5, -2, 1e-40, np.nan], "<f4").tobytes()),
        ("F16", np.array([0.5, -2, 0, np.nan], "<f2").tobytes()),
        ("BF16", bytes.fromhex("003f 00c0 0000 c07f")),
    ],
)
def test_floats_of_any_width_are_read_as_float32(kind: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(one(kind, [2, 2], data))
    found = read_weights(tmp_path / "w")[0]["w"]
    assert found.dtype == np.float32
    assert found.flags.writeable
    np.testing.assert_allclose(found, [[0.5, -2], [0, np.nan]], atol=1e-39)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 2**16 - 1), max_size=20))
def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path, halves: list[int]) -> None:
    data = np.array(halves, "<u2").tobytes()
    (tmp_path / "w").write_bytes(one("BF16", [len(halves)], data))
    found = read_weights(tmp_path / "w")[0]["w"]
    assert found.view(np.uint32).tolist() == [half << 16 for half in halves]


def test_number_too_large_for_float32_becomes_infinite(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(one("F64", [2], np.array([1e300, -1e300], "<f8").tobytes()))
    assert read_weights(tmp_path / "w")[0]["w"].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"PAR1 and so on, a file of some other kind",
        b"\xff" * 100,
        raw_file(b"{"),
        raw_file(b"[]"),
        raw_file(b"\xff\xfe"),
        raw_file({"w": 3}),
        raw_file({"w": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
        raw_file({"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw_file({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw_file({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 7),
        raw_file({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 9),
        raw_file(
            {"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, b"\0" * 8
        ),
        raw_file({"w": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}, b"\0" * 8),
        raw_file({"__metadata__": {"a": 1}}),
        raw_file(b'{"w":' + b"[" * 5000),
    ],
)
def test_files_that_are_not_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"w\.safetensors: not a safetensors file, or one cut"):
        read_weights(path)


def test_unsupported_types(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(one("F8_E4M3", [2], b"\0\0"))
    with pytest.raises(FormatError, match=r"\(w is of type F8_E4M3"):
        read_weights(tmp_path / "w")


def test_truncation_is_detected(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", ARRAYS, METADATA)
    content = (tmp_path / "w").read_bytes()
    for length in range(len(content)):
        (tmp_path / "w").write_bytes(content[:length])
        with pytest.raises(FormatError):
            read_weights(tmp_path / "w")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_raises_only_format_errors(tmp_path: Path, data: st.DataObject) -> None:
    write_weights(tmp_path / "w", {"a": np.ones((2, 3), np.float32)}, {"k": "v"})
    content = bytearray((tmp_path / "w").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255) | st.sampled_from(b'0123456789{}[]":,'))
    (tmp_path / "w").write_bytes(content)
    try:
        arrays, _ = read_weights(tmp_path / "w")
    except FormatError as error:
        message = str(error)
    else:
        message = ""
        assert all(array.nbytes <= len(content) * 4 for array in arrays.values())
    assert "\n" not in message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_weights(tmp_path / "w")
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"w": np.array(["a"])}, "w is <U1, expected numbers"),
        ({"w": np.zeros(2, complex)}, "w is complex128"),
        ({"w": np.array([None])}, "w is object"),
        ({"__metadata__": np.zeros(2)}, "may not be called __metadata__"),
        ({"\ud800": np.zeros(2)}, "cannot write"),
    ],
)
def test_arrays_that_cannot_be_written(
    arrays: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        write_weights(tmp_path / "w", arrays)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w"
    write_weights(path, ARRAYS)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastseq.store.disk.flush", refuse)
    with pytest.raises(FastseqError, match="No space left"):
        write_weights(path, {"w": np.zeros(5)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_invalid_paths(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="folder"):
        write_weights(tmp_path, ARRAYS)
    with pytest.raises(SettingsError, match="no such folder"):
        write_weights(tmp_path / "a" / "b", ARRAYS)
