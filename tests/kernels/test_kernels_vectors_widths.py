"""The kernels of word vectors against their twins, with vectors of other widths."""

from __future__ import annotations

from tests.sampling import some
from tests.widths import OTHERS, run_tests

FILES = [
    f"tests/kernels/test_kernels_{name}.py"
    for name in ("word2vec", "fasttext", "fasttext_labels", "glove")
]


def test_kernels_match_their_twins_at_other_widths() -> None:
    run_tests(OTHERS, *some(FILES, 2, "files"), "-k", "twin and not sizes")
