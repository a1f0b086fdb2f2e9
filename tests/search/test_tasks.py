"""The tasks of a batch on several threads: each is done once, and none after an interrupt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastseq import Index
from fastseq.query import Phrase, Prefix, Query
from fastseq.search import group_batches, phrase_batches
from fastseq.search.tasks import run_tasks


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 500])
def test_each_task_is_done_once(threads: int, count: int) -> None:
    done: list[int] = []

    def work(waiting: Iterator[int]) -> None:
        for task in waiting:
            done.append(task)

    with ThreadPoolExecutor(threads) as pool:
        run_tasks(work, range(count), threads, pool)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("main", [True, False])
def test_an_error_of_any_thread_is_raised(main: bool) -> None:
    def work(waiting: Iterator[int]) -> None:
        for _ in waiting:
            if (threading.current_thread() is threading.main_thread()) == main:
                raise MemoryError
            time.sleep(0.001)

    with ThreadPoolExecutor(2) as pool, pytest.raises(MemoryError):
        run_tasks(work, range(100), 2, pool)


@pytest.mark.parametrize(
    ("query", "module", "kernel"),
    [
        (Phrase("black cat"), phrase_batches, "collect_phrases"),
        (Prefix("ca"), group_batches, "collect_groups"),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_ends_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: Query, module: Any, kernel: str,
    error: type[BaseException],
) -> None:  # fmt: skip
    index = Index.build(["a black cat", "a cat"], tmp_path / "index")
    expected = index.search([query] * 2, threads=1).counts.tolist()
    tasks = 0
    whole: Callable[..., None] = getattr(module, kernel)

    def interrupted(*arguments: Any) -> None:
        nonlocal tasks
        tasks += 1
        if threading.current_thread() is threading.main_thread():
            raise error
        time.sleep(0.01)
        whole(*arguments)

    monkeypatch.setattr(module, kernel, interrupted)
    with pytest.raises(error):
        index.search([query] * 2000, threads=3)
    assert tasks < 20  # of 63 or more
    monkeypatch.undo()
    assert index.search([query] * 2, threads=3).counts.tolist() == expected
