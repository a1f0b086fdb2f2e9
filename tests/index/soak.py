"""Kills writers of an index at random moments while others search it.

    python -m tests.index.soak [RUNS] [--readers 3] [--seed 0] [--folder FOLDER]

Each run is a process that adds, deletes, compacts and builds anew, until SIGKILL. A journal outside
of the index has every change before it begins. After a run the index must have all changes that
were finished, and the one in progress whole or not at all. The readers are other processes, which
hold a commit, search it, move to the newest, and compare all with the changes of the journal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastseq import BM25, BoW, Index
from fastseq.store.folder import verify
from tests.index.living import (
    Documents,
    assert_tidy,
    built,
    documents_of,
    fresh_hits,
    hits_of,
    some_rows,
    table_of,
)

STAMP = -1  # the id of a document whose year is the number of the change that wrote it
IDS = 60
LONGEST = 0.5  # seconds until a writer is killed
ASKED: dict[str, Any] = {
    "models": [BM25(), BoW()],
    "queries": ["w1 w2", "all w0", {"w3": 1.0, "w4": -1.0}],
    "depths": (5, 1000),
}


class Journal:
    """The changes of an index, one line of JSON each: number, parent (the number of the change
    before it), kind and what it is made of. It belongs to one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._changes: dict[int, dict[str, Any]] = {}
        self._states: dict[int, Documents] = {}

    def append(self, change: dict[str, Any]) -> None:
        with open(self._path, "ab") as file:
            file.write(json.dumps(change).encode() + b"\n")

    def documents(self, number: int) -> Documents:
        """The documents after a change. Raises KeyError for an unknown one."""
        if number not in self._states:
            self.refresh()
            chain = []
            at = number
            while at not in self._states:
                change = self._changes[at]
                chain.append(change)
                if change["kind"] == "build":
                    break
                at = change["parent"]
            for change in reversed(chain):
                known = self._states.get(change["parent"])
                documents = Documents() if known is None else known.copy()
                self._states[change["number"]] = update(documents, change)
            for old in sorted(self._states)[:-50]:
                del self._states[old]
        return self._states[number]

    def refresh(self) -> None:
        with open(self._path, "rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    change = json.loads(line)
                    self._changes[change["number"]] = change

    @property
    def last(self) -> int:
        self.refresh()
        return max(self._changes, default=0)


def rows_of(change: dict[str, Any]) -> list[dict[str, Any]]:
    stamp = {"id": STAMP, "text": f"s{change['number']}", "year": change["number"]}
    return [*some_rows(change["add"], change["number"]), stamp]


def update(documents: Documents, change: dict[str, Any]) -> Documents:
    if change["kind"] == "build":
        documents = Documents()
    documents.delete(change["delete"])
    documents.add(rows_of(change))
    return documents


def drawn(number: int, parent: int, chance: random.Random) -> dict[str, Any]:
    kind = chance.choices(["change", "compact", "build"], [10, 2, 1])[0]
    return {
        "number": number,
        "parent": parent,
        "kind": kind,
        "add": chance.sample(range(IDS), chance.randint(0, 8)),
        "delete": chance.sample(range(IDS), chance.randint(0, 6)),
    }


def make(path: Path, change: dict[str, Any]) -> None:
    if change["kind"] == "build":
        built(rows_of(change), path, overwrite=True)
        return
    with Index.open(path).writer(threads=1) as writer:
        writer.delete(change["delete"])
        writer.add(table_of(rows_of(change)))
        if change["kind"] == "compact":
            writer.compact()


def stamp_of(index: Index) -> int:
    """The number of the change that an index has."""
    return int(index.get(STAMP)["year"])


def check(index: Index, journal: Journal, searches: bool) -> int:
    """The index is that of a change of the journal. Returns its number."""
    number = stamp_of(index)
    documents = journal.documents(number)
    assert documents_of(index) == documents.rows, f"other documents than those of change {number}"
    if searches:
        assert hits_of(index, **ASKED) == fresh_hits(documents.rows, **ASKED), f"change {number}"
    return number


# ---- the processes


def forked(work: Any, *arguments: Any) -> int:
    """Run a function in a child process, which ends with it."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def write(path: Path, log: Path, finished: Path, seed: int) -> None:
    """Make changes until killed; `finished` has the numbers of those that were."""
    chance = random.Random(seed)
    parent = stamp_of(Index.open(path))
    number = Journal(log).last
    journal = Journal(log)
    while True:
        number += 1
        change = drawn(number, parent, chance)
        journal.append(change)
        make(path, change)
        parent = number
        with open(finished, "ab") as file:
            file.write(f"{number}\n".encode())


def read(path: Path, log: Path, stop: Path, counts: Path, seed: int) -> None:
    """Open, search and refresh until `stop` exists; then write the number of checks."""
    chance = random.Random(seed)
    journal = Journal(log)
    index = Index.open(path)
    checks = commits = 0
    last = check(index, journal, True)
    while not stop.exists():
        if chance.random() < 0.3:
            index = Index.open(path)
        else:
            index.refresh()
        number = check(index, journal, chance.random() < 0.1)
        assert number >= last, f"change {number} after {last}"
        commits += number != last
        last = number
        checks += 1
        time.sleep(chance.random() * 0.02)
        # the commit that it holds, while writers go on
        assert check(index, journal, chance.random() < 0.1) == number
    counts.write_text(f"{checks} {commits}")


def soak(runs: int, readers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Returns numbers of the runs, changes, checks; raises AssertionError for a fault."""
    started = time.monotonic()
    path, log, finished, stop = (folder / n for n in ("index", "journal", "finished", "stop"))
    journal = Journal(log)
    first = {"number": 1, "parent": 0, "kind": "build", "add": [*range(20)], "delete": []}
    journal.append(first)
    finished.write_text("1\n")
    make(path, first)
    check(Index.open(path), journal, True)  # so that children have all kernels
    chance = random.Random(seed)
    pids = [
        forked(read, path, log, stop, folder / f"checks{n}", seed + n) for n in range(readers)
    ]
    before = after = 0
    try:
        for run in range(runs):
            done = int(finished.read_text().split()[-1])
            pid = forked(write, path, log, finished, seed + 1000 + run)
            time.sleep(chance.random() * LONGEST)
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSIGNALED(status), f"run {run}: the writer ended by itself"
            index = Index.open(path)
            number = check(index, journal, run % 10 == 0)
            known = int(finished.read_text().split()[-1])
            begun = journal.last
            assert number in (known, begun), f"run {run}: change {known} is lost, {number} found"
            before += number < begun
            after += number > known  # committed, but not yet said so
            if run % 10 == 0:
                assert verify(path) == []
            if number != known:
                with open(finished, "ab") as file:
                    file.write(f"{number}\n".encode())
            assert number >= done
            for reader in pids:
                assert os.waitpid(reader, os.WNOHANG) == (0, 0), f"run {run}: a reader has ended"
        change = drawn(journal.last + 1, number, chance)
        journal.append(change)
        make(path, change)
        assert check(Index.open(path), journal, True) == change["number"]
        assert_tidy(path)
    finally:
        stop.touch()
        codes = [os.waitpid(pid, 0)[1] for pid in pids if _is_running(pid)]
    assert codes == [0] * readers, "a reader has found a fault"
    counts = [(folder / f"checks{n}").read_text().split() for n in range(readers)]
    return {
        "runs": runs,
        "changes": len(finished.read_text().split()),
        "killed_before_commit": before,
        "killed_after_commit": after,
        "reader_checks": sum(int(checks) for checks, _ in counts),
        "reader_commits": sum(int(commits) for _, commits in counts),
        "seconds": round(time.monotonic() - started, 1),
    }


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="?", type=int, default=1000)
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fastseq-soak-", dir=options.folder) as folder:
        summary = soak(options.runs, options.readers, options.seed, Path(folder))
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
