"""Sizes, threads and ranges as users write them, and what the machine says of itself."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseq import machine
from fastseq.errors import SettingsError
from fastseq.settings import format_size, parse_range, parse_size, thread_count


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MB", 256 << 20),
        ("1GB", 1 << 30),
        ("1.5 GiB", 3 << 29),
        (" 64k ", 65536),
        ("2t", 2 << 40),
        ("7", 7),
        ("7b", 7),
        (4096, 4096),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "1 EB", "-1MB", "1,5GB", "1e9", "0", "0.1", "nan", True, 1.5, None, -1]
)
def test_invalid_sizes_are_rejected(text: object) -> None:
    with pytest.raises(SettingsError):
        parse_size(text)  # type: ignore[arg-type]


@given(st.integers(1, 1 << 50))
def test_formatted_sizes_parse_back(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.06)


def test_threads() -> None:
    assert thread_count(None) == machine.core_count() >= 1
    assert thread_count(3) == 3
    assert type(thread_count(np.int64(2))) is int


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_invalid_thread_counts_are_rejected(threads: object) -> None:
    with pytest.raises(SettingsError, match="threads"):
        thread_count(threads)  # type: ignore[arg-type]


def test_ranges() -> None:
    assert parse_range("1-2", "ngrams") == (1, 2)
    assert parse_range(" 3 - 5 ", "ngrams") == (3, 5)
    assert parse_range("2", "ngrams") == (2, 2)


@pytest.mark.parametrize("text", ["", "a", "2-1", "0-2", "1-2-3", "-2", "1–2"])
def test_invalid_ranges_are_rejected(text: str) -> None:
    with pytest.raises(SettingsError, match="ngrams"):
        parse_range(text, "ngrams")


def test_the_machine_describes_itself() -> None:
    said = json.loads(json.dumps(machine.describe()))
    assert said["cpu"]
    assert said["versions"]["numpy"] == np.__version__
    if hasattr(os, "sched_getaffinity"):
        assert said["cores"] == len(os.sched_getaffinity(0))
