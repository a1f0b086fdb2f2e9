"""How many float32 lanes a vector register of this machine holds.

16 with AVX-512, 8 with AVX2 and fused multiply-add, 4 elsewhere (SSE, NEON). $FASTSEQ_LANES forces
one of them, for tests and comparisons, and $FASTSEQ_WORDS=portable leaves out the instructions of
`simd/dots.py`; compiled code for each is cached separately.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

WIDTHS = (16, 8, 4)


def host_features() -> Mapping[str, bool]:
    """LLVM's names of the features of an x86 CPU; none elsewhere."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686", "x86"):
        return {}
    from llvmlite import binding

    found: Mapping[str, bool] = binding.get_host_cpu_features()
    return found


def _lanes() -> int:
    forced = os.environ.get("FASTSEQ_LANES")
    if forced:
        if forced not in map(str, WIDTHS):
            raise ValueError(f"FASTSEQ_LANES is {forced!r}, expected 16, 8 or 4")
        return int(forced)
    has = host_features()
    if has.get("avx512f") and has.get("avx512dq"):
        return 16
    return 8 if has.get("avx2") and has.get("fma") else 4


def _word_instructions() -> frozenset[str]:
    """The kinds of 32-bit words, "bfloat16" (two) and "bytes" (four), that the CPU multiplies and
    adds with one instruction for a vector of LANES words."""
    if PORTABLE:
        return frozenset()
    has = host_features()
    found = set()
    if LANES == 16 or has.get("avx512vl"):
        names = {"bfloat16": "avx512bf16", "bytes": "avx512vnni"}
        found |= {kind for kind, name in names.items() if has.get(name)}
    if LANES < 16 and has.get("avxvnni"):
        found.add("bytes")
    return frozenset(found)


PORTABLE = os.environ.get("FASTSEQ_WORDS") == "portable"
LANES = _lanes()
WORD_INSTRUCTIONS = _word_instructions()

# vector registers: 32 with AVX-512 and NEON, 16 with AVX2; SSE (16) uses NEON's tiles, since a
# spill costs less than another set of tiles
REGISTERS = 16 if LANES == 8 else 32
