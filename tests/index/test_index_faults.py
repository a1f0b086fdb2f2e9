"""Changes of an index when a call of the store fails, the disk is full, the process ends or the
power is cut; and that these tests notice when the store or the index is wrong."""

from __future__ import annotations

import inspect
import random
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fastseq import FastseqError, FormatError, Index
from fastseq.index.changes import IndexWriter
from fastseq.index.collection import Collection, Leaf
from fastseq.index.segment import Segment
from fastseq.store.container import Container
from fastseq.store.writer import FolderWriter
from tests import sampling
from tests.index import faulty
from tests.index.faulty import BY_NAME, SCENARIOS, Runs
from tests.index.living import Documents
from tests.store.faults import VARIANTS, Late, Synchronous

NAMES = list(BY_NAME)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real flushes take their time, and show nothing."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def numbers(runs: Runs, count: int, last: int = 1) -> Sequence[int]:
    """All calls of a scenario, or a sample."""
    every = range(1, runs.calls + last)
    return sampling.some(every, count, runs.scenario.name)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_changes_and_discarded_changes(scenario: faulty.Scenario, tmp_path: Path) -> None:
    runs = Runs(scenario, tmp_path)
    faulty.check_change(runs)
    calls = runs.run()[0].calls
    assert len(calls) == runs.calls  # always the same
    if runs.before is not None and scenario.name != "migrate":
        faulty.check_discard(runs)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_a_call_that_fails_is_one_error_and_no_change(
    scenario: faulty.Scenario, tmp_path: Path
) -> None:
    runs = Runs(scenario, tmp_path)
    faulty.check_failures(runs, numbers(runs, 1))


@pytest.mark.parametrize("executor", [Synchronous, Late] if sampling.ALL else [Synchronous])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_a_power_cut_at_any_call_leaves_a_whole_commit(
    scenario: faulty.Scenario, tmp_path: Path, executor: type[Synchronous]
) -> None:
    runs = Runs(scenario, tmp_path, executor)
    count = 2 if executor is Late else len(VARIANTS) if sampling.ALL else 3
    variants = random.Random(scenario.name).sample(VARIANTS, count)
    faulty.check_power_cuts(runs, numbers(runs, 1, last=2), variants)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_a_second_end_during_recovery_leaves_a_whole_commit(
    scenario: faulty.Scenario, tmp_path: Path
) -> None:
    runs = Runs(scenario, tmp_path)
    pairs = None if runs.calls < 16 else 6  # of each call: all of them take an hour
    faulty.check_repeated_faults(runs, numbers(runs, 1, last=2), pairs if sampling.ALL else 1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_free_space_grows_until_the_change_fits(scenario: faulty.Scenario, tmp_path: Path) -> None:
    runs = Runs(scenario, tmp_path)
    assert faulty.check_growing_space(runs, 61 if sampling.ALL else 1021) >= 1


def test_a_flipped_bit_is_an_error_or_nothing(tmp_path: Path) -> None:
    path, documents = flipped_index(tmp_path)
    faulty.check_flips(path, documents, sampling.some(faulty.bits_of(path)[::7], 60, "flips"))


def flipped_index(folder: Path) -> tuple[Path, Documents]:
    """Two segments and a deletion, as small as can be."""
    path = folder / "index"
    documents = Documents(faulty.some_rows(range(3)))
    faulty.built(documents.rows, path)
    faulty.Index.open(path).add(faulty.table_of(faulty.some_rows([9])), threads=1)
    documents.add(faulty.some_rows([9]))
    faulty.Index.open(path).delete(1)
    documents.delete([1])
    return path, documents


# ---- planted bugs


def planted(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, changes: Sequence[tuple[str, str]]
) -> None:
    """Replace a method by one whose source has some changes."""
    method = inspect.getattr_static(owner, name)
    source = textwrap.dedent(inspect.getsource(method))
    for old, new in changes:
        assert old in source, f"{owner.__name__}.{name} has no {old!r} any more"
        source = source.replace(old, new)
    found: dict[str, Any] = {}
    code = compile("from __future__ import annotations\n" + source, f"<planted in {name}>", "exec")
    exec(code, sys.modules[owner.__module__].__dict__, found)
    monkeypatch.setattr(owner, name, found[name])


def power_cuts(scenario: str, folder: Path, executor: type[Synchronous] = Synchronous) -> None:
    runs = Runs(BY_NAME[scenario], folder, executor)
    faulty.check_power_cuts(runs, range(runs.calls + 1, max(runs.calls - 12, 0), -1))


def late_power_cuts(scenario: str, folder: Path) -> None:
    power_cuts(scenario, folder, Late)


def first_power_cuts(scenario: str, folder: Path) -> None:
    runs = Runs(BY_NAME[scenario], folder)
    faulty.check_power_cuts(runs, [runs.calls + 1])


def failures(scenario: str, folder: Path) -> None:
    runs = Runs(BY_NAME[scenario], folder)
    mixed = [VARIANTS[-1]] * 8  # any of which finds it by chance
    faulty.check_failures(runs, range(runs.calls, max(runs.calls - 9, 0), -1), mixed)


def change(scenario: str, folder: Path) -> None:
    faulty.check_change(Runs(BY_NAME[scenario], folder))


def discard(scenario: str, folder: Path) -> None:
    faulty.check_discard(Runs(BY_NAME[scenario], folder))


def flips(scenario: str, folder: Path) -> None:
    path, documents = flipped_index(folder)
    bits = faulty.bits_of(path)
    faulty.check_flips(path, documents, bits[:: len(bits) // 150])


PLANTED: list[tuple[str, Callable[[str, Path], None], str, type, str, list[tuple[str, str]]]] = [
    ("a data file is not flushed", power_cuts, "add",
     FolderWriter, "flush", [("disk.flush", "str")]),
    ("the manifest is not flushed", power_cuts, "add",
     FolderWriter, "commit", [("disk.flush(new)", "pass")]),
    ("the folder of the data is not flushed", power_cuts, "add",
     FolderWriter, "commit", [("disk.flush_folder(self._data)", "pass")]),
    ("the folder is not flushed", power_cuts, "delete-few",
     FolderWriter, "commit", [("disk.flush_folder(self.root)", "pass")]),
    ("new folders are not flushed", first_power_cuts, "build",
     FolderWriter, "_flush_made", [("disk.flush_folder(folder.parent)", "pass")]),
    ("the manifest is renamed before the data is flushed", late_power_cuts, "add",
     FolderWriter, "commit",
     [("        for flush in self._flushes:\n            flush.result()\n", ""),
      ("        disk.rename(new, self.root / MANIFEST)\n",
       "        disk.rename(new, self.root / MANIFEST)\n"
       "        for flush in self._flushes:\n            flush.result()\n")]),
    ("old files are removed before the manifest is flushed", failures, "compact",
     FolderWriter, "_sweep_data", [("if not self._durable and", "if False and")]),
    ("leftovers are not removed", power_cuts, "compact",
     FolderWriter, "_sweep", [("files: list[str] = []", "return")]),
    ("segments are merged in the wrong order", change, "compact",
     IndexWriter, "_merge", [("self._parts[first:last]", "self._parts[first:last][::-1]")]),
    ("a deletion is lost", change, "delete",
     IndexWriter, "_remove", [("_remove_rows(number, rows)", "_remove_rows(number, rows[1:])")]),
    ("a deletion is written into the commit before", discard, "delete",
     IndexWriter, "_remove_rows", [(".live.copy()", ".live")]),
    ("document frequencies count deleted documents", change, "delete-few",
     Leaf, "counts_of", [("if self.live is None", "if True")]),
    ("the statistics count deleted documents", change, "delete-few",
     Collection, "__init__", [("sum(leaf.documents for", "sum(leaf.segment.documents for")]),
    ("tokens of deleted documents are counted", change, "delete-few",
     IndexWriter, "_remove_rows", [("part.leaf.tokens - tokens", "part.leaf.tokens")]),
    ("checksums of chunks are not verified", flips, "",
     Container, "_damaged", [("if found == self._checksums[base + chunk]", "if True")]),
    ("checksums of postings are not verified", flips, "",
     Segment, "verify_postings", [("isinstance(self._source, Container)", "False")]),
    ("an old document is not replaced", change, "replace",
     IndexWriter, "add", [(" + self._remove(batch.ids)", "")]),
    ("an old document is not replaced by a large addition", change, "add-corpus",
     IndexWriter, "_build", [("self._remove(ids.combine_chunks(), before)", "0")]),
    ("buffered documents are lost", change, "several-changes",
     IndexWriter, "_commit", [("self._flush()", "pass")]),
    ("a file of the commit before is forgotten", change, "add",
     IndexWriter, "_commit", [("if part.path is not None]", "if part.path is not None][1:]")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "scenario", "owner", "method", "changes"),
    [case[1:] for case in PLANTED],
    ids=[case[0].replace(" ", "-") for case in PLANTED],
)
def test_planted_bugs_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[str, Path], None],
    scenario: str, owner: type, method: str, changes: Sequence[tuple[str, str]],
) -> None:  # fmt: skip
    (tmp_path / "planted").mkdir()
    with monkeypatch.context() as patch:
        planted(patch, owner, method, changes)
        with pytest.raises(AssertionError):
            check(scenario, tmp_path / "planted")
    if sampling.ALL:  # and without the bug there is nothing to notice
        (tmp_path / "right").mkdir()
        check(scenario, tmp_path / "right")
    shutil.rmtree(tmp_path / "planted")


def test_a_change_that_fails_halfway_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the caller of the block catches its error."""
    index = Index.build([{"id": n, "text": "old"} for n in range(3)], tmp_path / "index")

    def damaged(*arguments: Any) -> Any:
        raise FormatError("damaged")

    monkeypatch.setattr("fastseq.index.changes.find_rows", damaged)
    for change in (
        lambda writer: writer.add([{"id": 1, "text": "new"}]),
        lambda writer: writer.add([{"id": n, "text": "new"} for n in range(2000)]),
        lambda writer: writer.delete(2),
    ):
        halfway = pytest.raises(FastseqError, match="halfway")
        with halfway, index.writer() as writer, suppress(FormatError):
            change(writer)
        assert len(Index.open(tmp_path / "index")) == 3
    monkeypatch.undo()
    assert index.delete(2)["deleted"] == 1
