"""Tensor cores: sums[16, 8] += a[16, words] b[8, words]ᵀ, eight words deep, by one warp.

A word is two bfloat16 or one tf32; a and b lie in shared memory, row after row. Of the 16 by 8 sums
a lane has four: rows `group` and `group` + 8 (lane // 4), columns 2 `place` and 2 `place` + 1
(lane % 4), as PTX has them for mma.sync.m16n8k16 (bfloat16) and m16n8k8 (tf32).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.kernels.cuda.runtime.instructions import tuple_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, intrinsic

if SIMULATED:

    def no_product() -> Any:
        """Sums of zero."""
        return (np.float32(0),) * 4

    def _simulated(read: Any) -> Any:
        def multiply(
            sums: Any, shared: Any, a: int, a_pitch: int, b: int, b_pitch: int, group: int,
            place: int,
        ) -> Any:  # fmt: skip
            found = []
            for i, before in enumerate(sums):
                row, column = group + i // 2 * 8, 2 * place + i % 2
                left, right = (
                    np.concatenate([read(shared[at + w]) for w in range(8)])
                    for at in (a + row * a_pitch, b + column * b_pitch)
                )
                found.append(np.float32(before + left.astype(np.float64) @ right))
            return tuple(found)

        return multiply

    def _two(word: Any) -> Any:
        """The two bfloat16 of a word, as float32."""
        whole = np.array([word], np.float32).view(np.uint32)
        return np.concatenate([whole << 16, whole >> 16 << 16]).view(np.float32)

    multiply_bfloat16 = _simulated(_two)
    multiply_tf32 = _simulated(lambda word: np.array([word], np.float32))

else:
    from llvmlite import ir
    from numba import types

    _F32, _I32 = ir.FloatType(), ir.IntType(32)
    _SUMS = types.UniTuple(types.float32, 4)

    @intrinsic
    def no_product(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return tuple_of(context, builder, _SUMS, [ir.Constant(_F32, 0.0)] * 4)

        return _SUMS(), generate

    def _multiplied(instruction: str) -> Any:
        @intrinsic
        def multiply(
            typing_context: Any, sums: Any, shared: Any, a: Any, a_pitch: Any, b: Any, b_pitch: Any,
            group: Any, place: Any,
        ) -> Any:  # fmt: skip
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                before, array, a, a_pitch, b, b_pitch, group, place = arguments
                data = context.make_array(signature.args[1])(context, builder, array).data

                def word(at: Any) -> Any:
                    return builder.bitcast(builder.load(builder.gep(data, [at])), _I32)

                four, eight = (ir.Constant(ir.IntType(64), n) for n in (4, 8))
                at = builder.add(builder.add(a, builder.mul(group, a_pitch)), place)
                below = builder.add(at, builder.mul(eight, a_pitch))
                left = [word(at), word(below), word(builder.add(at, four)),
                        word(builder.add(below, four))]  # fmt: skip
                at = builder.add(builder.add(b, builder.mul(group, b_pitch)), place)
                right = [word(at), word(builder.add(at, four))]
                kind = ir.FunctionType(ir.LiteralStructType([_F32] * 4), [_I32] * 6 + [_F32] * 4)
                text = (
                    f"mma.sync.aligned.{instruction} {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, "
                    "{$8, $9}, {$10, $11, $12, $13};"
                )
                places = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
                sums = [builder.extract_value(before, i) for i in range(4)]
                found = builder.asm(kind, text, places, [*left, *right, *sums], side_effect=True)
                return tuple_of(
                    context, builder, _SUMS, [builder.extract_value(found, i) for i in range(4)]
                )

            whole = types.int64
            return _SUMS(sums, shared, *[whole] * 6), generate

        return multiply

    multiply_bfloat16 = _multiplied("m16n8k16.row.col.f32.bf16.bf16.f32")
    multiply_tf32 = _multiplied("m16n8k8.row.col.f32.tf32.tf32.f32")
