"""Changes of an index on a simulated disk that fails, is full, or loses its power at any call.

Each function here checks one scenario, and raises AssertionError where a commit is lost, or is
there in part.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fastseq import FastseqError, FormatError, Index
from fastseq.index import changes
from fastseq.store.folder import MANIFEST, read_manifest
from tests.index.living import (
    FEW,
    Documents,
    Rows,
    assert_holds,
    assert_tidy,
    built,
    cached_hits,
    documents_of,
    hits_of,
    some_rows,
    state_of,
    table_of,
)
from tests.store.faults import VARIANTS, Death, SimulatedDisk, Synchronous

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v1" / "words"
NEXT = some_rows([2, 1000], seed=9)  # the change after the fault


@dataclass(frozen=True)
class Scenario:
    """A change, from one commit to the next.

    prepare  writes the commit before; None where there is none
    change   of the index at a path
    update   of the documents
    """

    name: str
    prepare: Callable[[Path], Documents | None]
    change: Callable[[Path], None]
    update: Callable[[Documents], None]

    def after(self, before: Documents | None) -> Documents:
        documents = Documents() if before is None else before.copy()
        self.update(documents)
        return documents


def _twelve(path: Path) -> Documents:
    rows = some_rows(range(12))
    built(rows, path)
    return Documents(rows)


def _several(path: Path, segments: int = 4) -> Documents:
    """A commit with several segments and deletions."""
    documents = _twelve(path)
    for number in range(1, segments):
        rows = some_rows([number, 100 + number, 200 + number], seed=number)
        Index.open(path).add(table_of(rows), threads=1)
        documents.add(rows)
    Index.open(path).delete([5, 102])
    documents.delete([5, 102])
    return documents


def _golden(path: Path) -> Documents:
    shutil.copytree(GOLDEN, path)
    return Documents(documents_of(Index.open(path)))


def _adds(rows: Rows) -> tuple[Callable[[Path], None], Callable[[Documents], None]]:
    def change(path: Path) -> None:
        Index.open(path).add(table_of(rows), threads=1)

    def update(documents: Documents) -> None:
        documents.add(rows)

    return change, update


def _add_corpus(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_FEW_ROWS", 1)  # as a large corpus, not collected in memory
        Index.open(path).add(table_of(ADDED), threads=1)


def _build(path: Path) -> None:
    built(ADDED, path)


def _overwrite(path: Path) -> None:
    built(ADDED, path, overwrite=True)


def _replace_all(documents: Documents) -> None:
    documents.delete(documents.ids)
    documents.add(ADDED)


def _several_changes(path: Path) -> None:
    with Index.open(path).writer(threads=1) as writer:
        writer.add(table_of(ADDED))
        writer.delete([3, 4, 101])
        writer.compact()
        writer.add(table_of(some_rows([3, 500], seed=6)))
        writer.delete([500])
        writer.add(table_of(some_rows([501], seed=6)))


def _several_updates(documents: Documents) -> None:
    documents.add(ADDED)
    documents.delete([3, 4, 101])
    documents.add(some_rows([3, 501], seed=6))


def _delete_golden(path: Path) -> None:
    Index.open(path).delete(["d03", "d17"])


ADDED = some_rows([3, 300, 7, 301], seed=5)
SCENARIOS = [
    Scenario("build", lambda path: None, _build, lambda documents: _adds(ADDED)[1](documents)),
    Scenario("add", _twelve, *_adds(ADDED)),
    Scenario("add-corpus", _several, _add_corpus, _adds(ADDED)[1]),
    Scenario("replace", _several, *_adds(some_rows([101, 0], seed=8))),
    Scenario(
        "delete",
        _several,
        lambda path: Index.open(path).delete([3, 103, 0]) and None,
        lambda documents: documents.delete([3, 103, 0]) and None,
    ),
    Scenario(
        "delete-few",
        _twelve,
        lambda path: Index.open(path).delete([3, 7]) and None,
        lambda documents: documents.delete([3, 7]) and None,
    ),
    Scenario(
        "delete-all",
        _several,
        lambda path: Index.open(path).delete([*range(400)]) and None,
        lambda documents: documents.delete(range(400)) and None,
    ),
    Scenario(
        "compact",
        _several,
        lambda path: Index.open(path).compact(threads=1),
        lambda documents: None,
    ),
    Scenario("add-merging", lambda path: _several(path, 9), *_adds(ADDED)),
    Scenario("overwrite", _several, _overwrite, _replace_all),
    Scenario("several-changes", _several, _several_changes, _several_updates),
    Scenario(
        "migrate", _golden, _delete_golden,
        lambda documents: documents.delete(["d03", "d17"]) and None,
    ),
]  # fmt: skip
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


class Runs:
    """Runs of a scenario, each from the same commit."""

    def __init__(
        self, scenario: Scenario, folder: Path, executor: type[Synchronous] = Synchronous
    ) -> None:
        self.scenario, self.folder, self._executor = scenario, folder, executor
        self._template = folder / "template"
        self._template.mkdir()
        self.before = scenario.prepare(self._template / "index")
        self.after = scenario.after(self.before)
        self.states = {"before": self.before, "after": self.after}
        self._number = 0
        if self.before is not None:
            self._commit_before = self._commit(self._template / "index")
        self.calls = len(self.run()[0].calls)

    def start(self) -> Path:
        """A copy of the commit before, in a folder of its own."""
        self._number += 1
        root = self.folder / f"run{self._number}"
        shutil.copytree(self._template, root)
        return root

    def run(
        self, root: Path | None = None, change: Callable[[Path], None] | None = None,
        disk: SimulatedDisk | None = None, **faults: Any,
    ) -> tuple[SimulatedDisk, BaseException | None]:  # fmt: skip
        """Make the change on a disk with faults, attributes of SimulatedDisk; returns the error
        that it raised. `disk`: by another process, on the disk of an earlier run."""
        root = self.start() if root is None else root
        with pytest.MonkeyPatch.context() as patch:
            disk = SimulatedDisk(root) if disk is None else disk.restarted()
            disk.executor = self._executor
            disk.install(patch)
            for name, value in faults.items():
                setattr(disk, name, value)
            try:
                (change or self.scenario.change)(root / "index")
            except (FastseqError, Death) as error:
                return disk, error
        return disk, None

    def next(self, path: Path) -> None:
        """The next change, of whatever state there is."""
        if not (path / "manifest.json").exists():
            built(NEXT, path)
        elif self.scenario.name == "migrate":
            Index.open(path).add(
                pa.table({"id": ["d00", "new"], "text": ["tea and w3", "w2"]}), threads=1
            )
        else:
            Index.open(path).add(table_of(NEXT), threads=1)

    def after_next(self, documents: Documents | None) -> Documents:
        found = Documents() if documents is None else documents.copy()
        if self.scenario.name == "migrate":
            for id, text in (("d00", "tea and w3"), ("new", "w2")):
                found.add([{"id": id, "text": text, "year": None, "tags": None}])
        else:
            found.add(NEXT)
        return found

    def state(self, path: Path) -> str:
        """Which of the states, "before" or "after", a folder is in."""
        found = state_of(path, self.states)
        if self.before is not None and self.before.rows == self.after.rows:
            return "before" if self._commit(path) == self._commit_before else "after"
        return found

    def _commit(self, path: Path) -> int:
        return read_manifest(path).statistics.get("commit", 0)

    def check_next(self, path: Path, documents: Documents | None) -> None:
        """The next change works, and leaves nothing of what failed before it."""
        self.next(path)
        assert state_of(path, {"next": self.after_next(documents)}) == "next"
        assert_tidy(path)

    def clean(self, *roots: Path) -> None:
        for root in roots:
            shutil.rmtree(root)


def check_change(runs: Runs) -> None:
    """The change itself: its result, and that of the next one."""
    root = runs.start()
    _, error = runs.run(root)
    assert error is None
    assert runs.state(root / "index") == "after"
    assert_tidy(root / "index")
    runs.check_next(root / "index", runs.after)
    runs.clean(root)


def check_discard(runs: Runs) -> None:
    """The change, and an exception in the same block: nothing happens, to readers neither."""
    root = runs.start()
    path = root / "index"
    assert runs.before is not None
    reader = Index.open(path)
    with suppress(ZeroDivisionError), reader.writer(threads=1) as writer:
        writer.delete(runs.before.ids[::2])
        writer.add(table_of(NEXT))
        writer.delete(runs.before.ids[1])
        raise ZeroDivisionError
    for index in (reader, Index.open(path)):
        assert_holds(index, runs.before)
    assert runs.state(path) == "before"
    assert_tidy(path)
    runs.check_next(path, runs.before)
    runs.clean(root)


def check_flips(path: Path, documents: Documents, flips: Iterable[tuple[str, int]]) -> None:
    """Bits of files of an index, by their numbers: with one of them flipped, there is an error that
    names the file, or the right hits."""
    for name, bit in flips:
        file = path / name
        raw = file.read_bytes()
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << (bit % 8)
        _replace(file, bytes(flipped))
        try:
            index = Index.open(path)
            assert documents_of(index) == documents.rows, f"bit {bit} of {name}"
            assert hits_of(index, **FEW) == cached_hits(documents), f"bit {bit} of {name}"
        except FormatError as error:
            said = str(error)
            assert str(file) in said or (name == MANIFEST and str(path) in said), (name, bit, said)
        finally:
            _replace(file, raw)
    assert_holds(Index.open(path), documents)


def bits_of(path: Path) -> list[tuple[str, int]]:
    """Every bit of every file of a commit."""
    return [
        (name, bit)
        for name in (MANIFEST, *sorted(read_manifest(path).files))
        for bit in range(8 * (path / name).stat().st_size)
    ]


def _replace(file: Path, raw: bytes) -> None:
    # another file under the name, so that who has mapped the old one keeps it
    new = file.with_name(file.name + ".flipped")
    new.write_bytes(raw)
    new.replace(file)


def check_failures(
    runs: Runs, numbers: Iterable[int] | None = None,
    power_cuts: Sequence[tuple[str, str]] = (VARIANTS[0], VARIANTS[-1]),
) -> None:  # fmt: skip
    """Call n fails, or every call from n on that needs space."""
    for number in range(1, runs.calls + 1) if numbers is None else numbers:
        for lasting in (False, True):
            root = runs.start()
            reader = None if runs.before is None else Index.open(root / "index")
            disk, error = runs.run(root, fail_at=number, lasting=lasting)
            call = f"{runs.scenario.name}: call {number}, {disk.calls[number - 1]}"
            renamed = "rename manifest.json.new" in disk.calls[: number - 1]
            state = runs.state(root / "index")
            if error is None:
                # what is removed is removed by the next writer
                assert state == "after", call
            else:
                said = str(error)
                assert isinstance(error, FastseqError), call
                assert "No space left on device" in said, call
                assert str(root) in said, call
                assert "\n" not in said, call
                assert state == ("after" if renamed else "before"), call
            if reader is not None:
                assert runs.before is not None
                assert documents_of(reader) == runs.before.rows, call
                assert hits_of(reader, **FEW) == cached_hits(runs.before), call
            # the power is cut after what the writer did about the failure
            left = root.with_name("left")
            for turn, (entries, contents) in enumerate(power_cuts):
                disk.after_power_cut(left, entries, contents, seed=1000 * turn + number)
                try:
                    assert runs.state(left / "index") in ("before", state)
                except AssertionError as problem:
                    problem.add_note(f"{call}, lasting: {lasting}, {entries}, {contents}")
                    raise
                runs.clean(left)
            runs.check_next(root / "index", runs.states[state])
            runs.clean(root)


def check_power_cuts(
    runs: Runs, numbers: Iterable[int] | None = None,
    variants: Sequence[tuple[str, str]] = VARIANTS,
) -> None:  # fmt: skip
    """The process ends at call n, or after the last, and what was not flushed is lost, kept or
    torn."""
    for number in range(1, runs.calls + 2) if numbers is None else numbers:
        root = runs.start()
        disk, error = runs.run(root, die_at=number)
        assert (error is None) == (number > len(disk.calls)), error
        for entries, contents in variants:
            left = root.with_name("left")
            disk.after_power_cut(left, entries, contents, seed=number)
            try:
                state = runs.state(left / "index")
                assert state == "after" or error is not None, "the commit is lost"
                runs.check_next(left / "index", runs.states[state])
            except Exception as problem:
                last = disk.calls[number - 1 : number] or ["the end"]
                problem.add_note(
                    f"{runs.scenario.name}: {last[0]} ({number}), {entries}, {contents}"
                )
                raise
            runs.clean(left)
        runs.clean(root)


def check_repeated_faults(
    runs: Runs, numbers: Iterable[int] | None = None, seconds: int | None = None
) -> None:
    """The process ends at call n, with or without a power cut, and once more, with a power cut, at
    call m of the next change: all pairs, or for each n `seconds` of them by chance."""
    for number in range(1, runs.calls + 2) if numbers is None else numbers:
        chance = random.Random(f"{runs.scenario.name} {number}")
        for turn in itertools.count(1) if seconds is None else range(seconds):
            second = turn if seconds is None else chance.randint(1, 45)
            cut, first_cut, second_cut = chance.random() < 0.5, *chance.choices(VARIANTS, k=2)
            root, left, again = runs.start(), runs.folder / "left", runs.folder / "again"
            disk, _ = runs.run(root, die_at=number)
            if cut:
                disk.after_power_cut(left, *first_cut, seed=chance.randrange(1 << 30))
                runs.clean(root)
                disk = None
                root = left
            state = runs.state(root / "index")
            disk, error = runs.run(root, runs.next, disk, die_at=second)
            disk.after_power_cut(again, *second_cut, seed=chance.randrange(1 << 30))
            states = {**runs.states, "next": runs.after_next(runs.states[state])}
            if cut or number > runs.calls:  # else the first commit may be undone
                states = {state: runs.states[state], "next": states["next"]}
            try:
                found = state_of(again / "index", states)
                assert found == "next" or error is not None, "the commit is lost"
                runs.check_next(again / "index", states[found])
            except Exception as problem:
                problem.add_note(
                    f"{runs.scenario.name}: call {number}, {first_cut if cut else 'killed'}, "
                    f"call {second}, {second_cut}, last calls: {disk.calls[-3:]}"
                )
                raise
            runs.clean(again, root)
            if seconds is None and error is None:
                break


def check_growing_space(runs: Runs, step: int) -> int:
    """Free space grows from 0 bytes until the change fits; returns the number of failures."""
    failures = 0
    root = runs.start()
    while True:
        disk, error = runs.run(root, free=failures * step)
        state = runs.state(root / "index")
        if error is None:
            assert state == "after"
            break
        assert "No space left on device" in str(error)
        assert state == "before", f"{failures * step} bytes: {disk.calls[-3:]}"
        failures += 1
    runs.check_next(root / "index", runs.after)
    runs.clean(root)
    return failures
