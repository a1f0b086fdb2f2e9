"""Outputs that continue after an interruption."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow.parquet as pq
import pytest

from fastseq.errors import FastseqError, FastseqWarning, FormatError, SettingsError
from fastseq.store import disk, predictions
from fastseq.store.predictions import Continued, Predictions
from fastseq.store.rows import Corpus, RowBatch
from tests.store.faults import Death

ROWS, BATCH, GROUP = 100, 7, 20  # groups end with a batch: after 21 rows


@dataclass
class Counts:
    rows: int = 0


class Run:
    """Predictions of a file; `reads` has the first row of every batch that was computed."""

    def __init__(self, path: Path, setting: int = 1, end: int = ROWS) -> None:
        reader = Corpus.open(path, store=["text"])
        self.counts, self.reads = Counts(), list[int]()

        def found(first: int = 0) -> Iterator[tuple[RowBatch, dict[str, Any]]]:
            for batch in reader.batches(BATCH * 7):  # bytes: word-00
                if batch.first_row < first:
                    continue
                if batch.first_row + batch.rows > end:
                    raise Death
                self.reads.append(batch.first_row)
                self.counts.rows += batch.rows
                numbers = np.arange(batch.first_row, batch.first_row + batch.rows)
                yield batch, {"square": (numbers**2 + setting).astype(np.float32)}

        continued = Continued(found, self.counts, lambda: {"setting": setting})
        self.predictions = Predictions(reader, {"square": "float"}, found(), continued)

    def write(self, out: Path, overwrite: bool = False) -> int:
        return self.predictions.write(out, overwrite=overwrite)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "GROUP_ROWS", GROUP)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": f"word-{i:02}"}) for i in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def interrupted(rows: Path, out: Path, **more: Any) -> Run:
    run = Run(rows, end=60, **more)
    with pytest.raises(Death):
        run.write(out)
    return run


def test_an_interrupted_run_continues_to_the_same_bytes(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run(rows)
    assert whole.write(tmp_path / "whole.parquet") == ROWS
    assert pq.read_table(tmp_path / "whole.parquet")["square"].to_pylist()[9] == 82
    assert pq.ParquetFile(tmp_path / "whole.parquet").num_row_groups == 5
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.partial"
    assert len(interrupted(rows, out).reads) == 8
    assert not out.exists()
    assert sorted(path.name for path in parts.iterdir() if path.name[0] != ".") == [
        "lock", "manifest.json", "part-000000", "part-000001",
    ]  # fmt: skip
    again = Run(rows)
    with pytest.warns(FastseqWarning, match="continued after 42 rows"):
        assert again.write(out) == ROWS
    assert again.reads[0] == 42
    assert again.counts.rows == ROWS
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.parquet", "rows.jsonl", "whole.parquet"
    ]  # fmt: skip

    # a process that dies at any step of the disk loses at most a group
    renames = 0

    def rename(*given: Any, real: Callable[..., None] = disk.rename) -> None:
        nonlocal renames
        renames += 1
        if renames == dies_at:
            raise Death
        real(*given)

    monkeypatch.setattr(disk, "rename", rename)
    for dies_at in range(1, 8):
        renames = 0
        out = tmp_path / f"{dies_at}.parquet"
        if dies_at < 7:  # a manifest, four groups, the output
            with pytest.raises(Death):
                Run(rows).write(out)
        dies_at = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a notice where there was a part
            assert Run(rows).write(out) == ROWS
        assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_run_with_other_settings_or_inputs_is_refused(tmp_path: Path, rows: Path) -> None:
    out = tmp_path / "out.parquet"
    interrupted(rows, out)
    with pytest.raises(SettingsError, match=r"another setting: 1, now 2; remove the folder"):
        Run(rows, setting=2).write(out)
    before = rows.read_text()
    rows.write_text(before.replace("word-99", "word-98 "))
    with pytest.raises(SettingsError, match="other inputs, or before they were changed"):
        Run(rows).write(out)
    assert Run(rows).write(out, overwrite=True) == ROWS
    assert not (tmp_path / "out.parquet.partial").exists()


def test_damaged_parts_and_folders_of_others(tmp_path: Path, rows: Path) -> None:
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.partial"
    parts.mkdir()
    Run(rows).write(out)  # an empty folder is left by a run that ended before its first part
    out.unlink()
    parts.mkdir()
    (parts / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not an unfinished output"):
        Run(rows).write(out)
    (parts / "notes.txt").rename(tmp_path / "notes.txt")
    interrupted(rows, out)
    with filelock.FileLock(parts / "lock"), pytest.raises(SettingsError, match="another process"):
        Run(rows).write(out)
    part = parts / "part-000000"
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    with (
        pytest.warns(FastseqWarning),
        pytest.raises(FormatError, match=r"part-000000: damaged .*remove"),
    ):
        Run(rows).write(out)
    assert not out.exists()
    (parts / "manifest.json").write_text("{")
    with pytest.raises(FormatError, match=r"manifest.json: damaged"):
        Run(rows).write(out)
    with pytest.raises(FastseqError):
        Run(rows).write(parts / "lock" / "out.parquet")
