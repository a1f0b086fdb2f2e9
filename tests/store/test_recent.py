"""The cache of limited size against a list in the order of last use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastseq.store.recent import Recent

SIZES = st.sampled_from([0, 1, 20, 33, 40, 100, 101])
USES = st.lists(st.tuples(st.booleans(), st.integers(0, 6), SIZES), max_size=60)


@given(USES)
def test_what_was_not_used_for_longest_goes_first(uses: list[tuple[bool, int, int]]) -> None:
    recent, known = Recent(100), []
    for number, (is_put, key, nbytes) in enumerate(uses):
        found = next((entry for entry in known if entry[0] == key), None)
        known = [entry for entry in known if entry[0] != key]
        if is_put:
            recent.put(key, number, nbytes)
            known += [(key, number, nbytes)] if nbytes <= 100 else []
        else:
            assert recent.get([key, "unknown"]) == [None if found is None else found[1], None]
            known += [] if found is None else [found]
        while sum(entry[2] for entry in known) > 100:
            known.pop(0)
    assert recent.nbytes == sum(entry[2] for entry in known)
    assert recent.get(range(7)) == [
        next((value for k, value, _ in known if k == key), None) for key in range(7)
    ]
