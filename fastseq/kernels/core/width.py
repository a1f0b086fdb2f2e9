"""How many float32 lanes a vector register of this machine holds.

16 with AVX-512, 8 with AVX2 and fused multiply-add, 4 elsewhere (SSE, NEON). $FASTSEQ_LANES forces
one of them, for tests and comparisons; compiled code for each is cached separately.
"""

from __future__ import annotations

import os
import platform

WIDTHS = (16, 8, 4)


def _lanes() -> int:
    forced = os.environ.get("FASTSEQ_LANES")
    if forced:
        if forced not in map(str, WIDTHS):
            raise ValueError(f"FASTSEQ_LANES is {forced!r}, expected 16, 8 or 4")
        return int(forced)
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686", "x86"):
        return 4
    from llvmlite import binding

    has = binding.get_host_cpu_features()
    if has.get("avx512f") and has.get("avx512dq"):
        return 16
    return 8 if has.get("avx2") and has.get("fma") else 4


LANES = _lanes()

# vector registers: 32 with AVX-512 and NEON, 16 with AVX2; SSE (16) uses NEON's tiles, since a
# spill costs less than another set of tiles
REGISTERS = 16 if LANES == 8 else 32
