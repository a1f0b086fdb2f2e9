"""Recurrent layers, products and the CRF with vectors of other widths."""

from __future__ import annotations

from tests.sampling import some
from tests.widths import OTHERS, run_tests

CHOSEN = [
    "tests/nn/test_nn_recurrent.py::test_three_layers_and_a_batch_beyond_the_blocks_of_a_product",
    "tests/nn/test_nn_recurrent.py::test_layers_match_the_naive_twin",
    "tests/nn/test_nn_products.py",
    "tests/nn/test_nn_crf.py",
    "tests/kernels/simd/test_simd_gemm.py",
]


def test_recurrent_tests_pass_at_other_widths() -> None:
    run_tests(OTHERS, *some(CHOSEN, 4, "files"))
