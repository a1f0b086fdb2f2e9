"""How much of the randomised and exhaustive suites runs: a seeded sample, or all of them.

FASTSEQ_TESTS=all, or `make test-all`, runs everything. Otherwise tests/conftest.py
- keeps n of the parameter sets of a test marked `@pytest.mark.sample(n)`,
- lets hypothesis draw an eighth of the examples that a test asks for, always the same ones;
and `some(cases, n)` keeps n cases of a loop; in Numba's simulator tests/cuda/conftest.py samples
too. FASTSEQ_TESTS=<number> takes another sample than 0.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")

_CHOSEN = os.environ.get("FASTSEQ_TESTS", "0")
ALL = _CHOSEN == "all"
LEAST = 10  # examples


def some(cases: Sequence[Case], count: int, name: str = "") -> list[Case]:
    """All cases with FASTSEQ_TESTS=all, else a sample of `count` in their order; `name` seeds."""
    if ALL or count >= len(cases):
        return list(cases)
    chosen = random.Random(f"{_CHOSEN} {name}").sample(range(len(cases)), count)
    return [cases[at] for at in sorted(chosen)]


def examples(count: int) -> int:
    """`count` with FASTSEQ_TESTS=all, else an eighth of it, at least LEAST where there are."""
    return count if ALL else max(min(count, LEAST), count // 8)
