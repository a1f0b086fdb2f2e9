"""A thread team: every part runs once, errors are raised, workers end; ranges of work."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastseq.threads import Team


def helpers() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("fastseq-team")}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("parts", [0, 1, 2, 3, 50])
def test_every_part_runs_once(threads: int, parts: int) -> None:
    team, done = Team(threads), []
    for _ in range(3):
        team.run(done.append, parts)
    assert Counter(done) == Counter(dict.fromkeys(range(parts), 3))


def test_the_parts_run_at_the_same_time() -> None:
    """Three parts that each wait for the two others."""
    barrier = threading.Barrier(3)
    seen = set()

    def work(part: int) -> None:
        barrier.wait(timeout=30)
        seen.add(threading.current_thread())

    Team(3).run(work, 3)
    assert len(seen) == 3
    assert threading.current_thread() in seen


def test_one_thread_starts_no_worker() -> None:
    before, seen = helpers(), set()
    Team(1).run(lambda part: seen.add(threading.current_thread()), 5)
    Team(4).run(lambda part: seen.add(threading.current_thread()), 1)
    assert seen == {threading.current_thread()}
    assert helpers() == before


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("bad", range(6))
def test_error_of_any_part_is_raised(threads: int, bad: int) -> None:
    def work(part: int) -> None:
        if part == bad:
            raise ArithmeticError(f"part {part}")

    team = Team(threads)
    with pytest.raises(ArithmeticError, match=f"part {bad}"):
        team.run(work, 6)
    done: list[int] = []
    team.run(done.append, 6)  # the team can be used again
    assert sorted(done) == list(range(6))


def test_error_of_a_worker_is_raised() -> None:
    """The caller and one helper meet, so that both have a part; the helper's fails."""
    barrier, caller = threading.Barrier(2), threading.current_thread()

    def work(part: int) -> None:
        barrier.wait(timeout=30)
        if threading.current_thread() is not caller:
            raise ArithmeticError("helper")

    with pytest.raises(ArithmeticError, match="helper"):
        Team(2).run(work, 2)


def test_run_waits_for_all_started_parts() -> None:
    """Also after an error: kernels must not write to arrays that the caller has released."""
    barrier, caller, ended = threading.Barrier(2), threading.current_thread(), []

    def work(part: int) -> None:
        barrier.wait(timeout=30)
        if threading.current_thread() is caller:
            raise ArithmeticError("caller")
        time.sleep(0.05)
        ended.append(part)

    with pytest.raises(ArithmeticError, match="caller"):
        Team(2).run(work, 2)
    assert len(ended) == 1


def test_part_may_run_the_team_itself() -> None:
    team, lock, done = Team(2), threading.Lock(), []

    def inner(part: int) -> None:
        with lock:
            done.append(part)

    team.run(lambda part: team.run(inner, 3), 3)
    assert Counter(done) == {0: 3, 1: 3, 2: 3}


def test_workers_end_with_their_team() -> None:
    before = helpers()
    team = Team(3)
    barrier = threading.Barrier(3)
    team.run(lambda part: barrier.wait(timeout=30), 3)
    assert len(helpers() - before) == 2
    del team
    gc.collect()
    for helper in helpers() - before:
        helper.join(timeout=30)
    assert not helpers() - before


@given(st.integers(0, 300), st.integers(1, 9), st.integers(0, 40), st.integers(1, 20))
def test_split(n: int, threads: int, least: int, multiple: int) -> None:
    ranges = Team(threads).split(n, least, multiple)
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(n))
    assert len(ranges) <= threads
    assert all(start < stop for start, stop in ranges)
    assert all(stop % multiple == 0 for _, stop in ranges[:-1])
    lengths = [stop - start for start, stop in ranges[:-1]]
    if lengths:
        assert min(lengths) >= least
        assert max(lengths) - min(lengths) <= multiple
        assert max(lengths) < n / len(ranges) + multiple + 1  # nearly equal


def test_copies_have_their_own_threads() -> None:
    team = Team(2)
    team.run(lambda part: None, 2)
    for twin in (copy.deepcopy(team), pickle.loads(pickle.dumps(team))):
        done: list[int] = []
        twin.run(done.append, 4)
        assert twin.threads == 2
        assert sorted(done) == [0, 1, 2, 3]
