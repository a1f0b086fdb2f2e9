"""Products with a fixed weight in three precisions, for inference.

"float32"   as in training
"bfloat16"  weights and inputs rounded to bfloat16, sums in float32
"int8"      weights in 255 steps for each column, inputs in 255 for each row, sums exact in int32

Every row of a result depends on nothing but the row of the input, so its bits are the same in any
batch. CPUs with AVX-512 BF16 multiply two, with VNNI (AVX-512 or AVX) four numbers in the time of
one float32; others compute the same, int8 in the time of float32, bfloat16 in twice as much.

Sources: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.3; scales by row and by column as in Dettmers et al.
2022, "LLM.int8()", section 3.1.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.kernels.core.width import WORD_INSTRUCTIONS
from fastseq.kernels.nn.words import as_steps, from_sums, to_bfloat16, to_bytes
from fastseq.kernels.simd import gemm
from fastseq.nn.products import Panels, padded_bias, scratch, thread_space
from fastseq.threads import Team
from fastseq.types import Float32


class Product:
    """out = x · weightᵀ + bias on the calling thread, of float32.

    weight  float32[M, K], packed
    bias    float32[M]
    """

    per_word: ClassVar[int] = 1  # numbers in 32 bits
    _multiply: ClassVar[Any] = staticmethod(gemm.multiply_panels)

    def __init__(self, weight: Float32, bias: Float32, team: Team) -> None:
        self.outputs, self.inputs = weight.shape
        words = self._words(weight)
        self._panels = Panels(words.shape[1], self.outputs).pack(words, team, transposed=True)
        self.bias = padded_bias(bias, self.outputs)

    def __call__(self, out: Float32, x: Float32) -> None:
        """Write out float32[N, M] of x float32[N, K]."""
        self.multiply_words(out, self.converted(x), self.bias)

    def converted(self, x: Float32) -> Float32:
        """x as words float32[N, ceil(K / per_word)], valid until the thread's next conversion."""
        return x

    def multiply_words(self, out: Float32, words: Float32, bias: Float32) -> None:
        """Write out float32[N, M], the sums of products of words on top of a bias."""
        self._multiply(out, words, self._panels.data, bias, False, scratch(), 0, len(words))

    def _words(self, weight: Float32) -> Float32:
        """float32[M, ceil(K / per_word)], whose bits are words of the weight."""
        return weight

    def _of_rows(self, rows: int, kind: npt.DTypeLike) -> tuple[Float32, Any]:
        """Memory of the calling thread for words float32[N, ceil(K / per_word)], and the same as an
        array of the numbers in them."""
        words = thread_space().array("words", rows, -(-self.inputs // self.per_word))
        return words, words.view(kind)


class Bfloat16Product(Product):
    """The product of weight and inputs rounded to bfloat16."""

    per_word = 2
    _multiply = staticmethod(gemm.multiply_bfloat16)

    def converted(self, x: Float32) -> Float32:
        words, numbers = self._of_rows(len(x), np.uint16)
        to_bfloat16(numbers, x, 0, len(x))
        return words

    def _words(self, weight: Float32) -> Float32:
        rows, columns = weight.shape
        numbers = np.empty((rows, columns + columns % 2), np.uint16)
        to_bfloat16(numbers, np.ascontiguousarray(weight), 0, rows)
        return numbers.view(np.float32)


class Int8Product(Product):
    """The product of weight and inputs as bytes."""

    per_word = 4
    _multiply = staticmethod(gemm.multiply_bytes)
    _scales: Float32
    _sums: Float32
    _zeros: Float32

    def __call__(self, out: Float32, x: Float32) -> None:
        self.multiply_words(out, self.converted(x), self._zeros)
        scales, lows = self._steps(len(x))
        from_sums(out, scales, lows, self._scales, self._sums, self.bias, 0, len(x))

    def converted(self, x: Float32) -> Float32:
        words, numbers = self._of_rows(len(x), np.uint8)
        scales, lows = self._steps(len(x))
        to_bytes(numbers, scales, lows, x, 0, len(x))
        return words

    def _steps(self, rows: int) -> Float32:
        """The scales and the least numbers of the rows last converted, float32[2, N]."""
        return thread_space().array("steps", 2, rows)

    def _words(self, weight: Float32) -> Float32:
        words: Float32
        words, scales, sums = as_steps(weight)
        rows = len(words)
        self._scales, self._sums = padded_bias(scales, rows), padded_bias(sums, rows)
        self._zeros = padded_bias(None, rows)  # of float32 and of int32
        return words


PRECISIONS: dict[str, type[Product]] = {
    "float32": Product, "bfloat16": Bfloat16Product, "int8": Int8Product
}  # fmt: skip
_WORDS = {"bfloat16": "bfloat16", "int8": "bytes"}


def has_instructions(precision: str) -> bool:
    """Whether this CPU multiplies numbers of a precision with instructions of their own."""
    return precision not in _WORDS or _WORDS[precision] in WORD_INSTRUCTIONS
