"""The emulated GPU computes as the PTX manual says, and faults where a GPU may go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.emulator.machine import WARP, Device, launch, program
from tests.emulator.spaces import FaultError

HEAD = """
.version 9.0
.target sm_90
.address_size 64
.extern .shared .align 8 .b8 room[];
.visible .entry tried(.param .u64 first, .param .u64 second, .param .u32 third)
.maxntid 256, 1, 1
{
  .reg .pred %p<9>; .reg .b32 %r<40>; .reg .f32 %f<40>; .reg .b64 %rd<20>; .reg .f64 %fd<9>;
  ld.param.u64 %rd1, [first];
  ld.param.u64 %rd2, [second];
  ld.param.u32 %r9, [third];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd4, %rd1, %rd3;   // of this thread, in the first array
  add.s64 %rd5, %rd2, %rd3;
  mov.u64 %rd6, room;
  add.s64 %rd7, %rd6, %rd3;   // and in shared memory
"""


@pytest.fixture(scope="module")
def device() -> Device:
    return Device(1 << 22)


def put(device: Device, array: Any) -> int:
    address = device.allocate(array.nbytes)
    at = address - device.space.first
    device.space.raw[at : at + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
    return address


def get(device: Device, address: int, like: Any) -> Any:
    at = address - device.space.first
    return device.space.raw[at : at + like.nbytes].copy().view(like.dtype).reshape(like.shape)


def run(
    device: Device, body: str, first: Any, second: Any, third: int = 0, *, threads: int = 32,
    blocks: int = 1, dynamic: int = 4096, seed: int | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Both arrays afterwards."""
    addresses = put(device, first), put(device, second)
    try:
        launch(
            program(HEAD + body + "ret;\n}"), (blocks, 1, 1), threads, dynamic,
            [*addresses, third], device, seed,
        )  # fmt: skip
        return get(device, addresses[0], first), get(device, addresses[1], second)
    finally:
        for address in addresses:
            device.free(address)


WHOLE = [
    ("add.s32", lambda a, b: a + b), ("sub.s32", lambda a, b: a - b),
    ("mul.lo.s32", lambda a, b: a * b), ("and.b32", lambda a, b: a & b),
    ("or.b32", lambda a, b: a | b), ("xor.b32", lambda a, b: a ^ b),
    ("min.s32", np.minimum), ("max.s32", np.maximum),
    ("div.s32", lambda a, b: np.trunc(a.astype(float) / b).astype(np.int32)), ("rem.s32", np.fmod),
    ("shl.b32", lambda a, b: np.array(
        [int(x) << (int(n) & 0xFFFFFFFF) & 0xFFFFFFFF if 0 <= n < 32 else 0
         for x, n in zip(a, b, strict=True)], np.uint32).view(np.int32)),
    ("shr.s32", lambda a, b: np.array(
        [int(x) >> (n if 0 <= n < 32 else 31) for x, n in zip(a, b, strict=True)], np.int32)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), WHOLE, ids=lambda x: x if isinstance(x, str) else "")
def test_integer_arithmetic(device: Device, name: str, expected: Any) -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(-(2**31), 2**31, 64).astype(np.int32)
    b = np.where(rng.random(64) < 0.5, rng.integers(1, 40, 64), -rng.integers(1, 9999, 64))
    b = b.astype(np.int32)
    body = f"ld.global.u32 %r2, [%rd4]; ld.global.u32 %r3, [%rd5]; {name} %r4, %r2, %r3; "
    found, _ = run(device, body + "st.global.u32 [%rd4], %r4;", a, b, threads=64)
    np.testing.assert_array_equal(found, expected(a, b))


@pytest.mark.parametrize("sign", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("unordered", ["", "u"])
def test_comparisons_with_nan(device: Device, sign: str, unordered: str) -> None:
    a = np.array([1, 2, 3, np.nan, 1, np.nan, -np.inf, 0], np.float32)
    b = np.array([2, 2, 1, 1, np.nan, np.nan, 0, -0.0], np.float32)
    body = f"""ld.global.f32 %f1, [%rd4]; ld.global.f32 %f2, [%rd5];
        setp.{sign}{unordered}.f32 %p1, %f1, %f2; selp.f32 %f3, 0f3F800000, 0f00000000, %p1;
        st.global.f32 [%rd4], %f3;"""
    found, _ = run(device, body, a, b, threads=8)
    plain = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
             "gt": np.greater, "ge": np.greater_equal}[sign](a, b)  # fmt: skip
    either = np.isnan(a) | np.isnan(b)
    np.testing.assert_array_equal(found == 1, np.where(either, unordered == "u", plain))


def test_loop_with_a_trip_count_per_thread(device: Device) -> None:
    body = """mov.u32 %r2, 0;
    again: setp.ge.u32 %p1, %r2, %r1; @%p1 bra done; add.u32 %r2, %r2, 1; bra.uni again;
    done: st.global.u32 [%rd4], %r2;"""
    for seed in (None, 1, 2):
        found, _ = run(device, body, np.zeros(64, np.uint32), np.zeros(1), threads=64, seed=seed)
        assert found.tolist() == list(range(64))


def test_fused_multiply_add_rounds_once(device: Device) -> None:
    a = np.full(4, 1 + 2**-12, np.float32)
    b = np.full(4, -1 - 2**-11, np.float32)
    body = """ld.global.f32 %f1, [%rd4]; ld.global.f32 %f2, [%rd5];
        fma.rn.f32 %f3, %f1, %f1, %f2; st.global.f32 [%rd4], %f3;"""
    assert (run(device, body, a, b, threads=4)[0] == np.float32(2**-24)).all()


def test_half_precision(device: Device) -> None:
    x = np.array([1.5, -2.25e300], np.float64)
    body = """mul.wide.u32 %rd3, %r1, 8; add.s64 %rd4, %rd1, %rd3; ld.global.f64 %fd1, [%rd4];
        mov.b64 {%r2, %r3}, %fd1; mov.b64 %fd2, {%r2, %r3}; neg.f64 %fd2, %fd2;
        st.global.f64 [%rd4], %fd2;"""
    assert (run(device, body, x, np.zeros(1), threads=2)[0] == -x).all()


SHARED = "ld.global.u32 %r2, [%rd4]; st.shared.u32 [%rd7], %r2; {} xor.b32 %r3, %r1, {};"
ACROSS = """mul.wide.u32 %rd8, %r3, 4; add.s64 %rd8, %rd6, %rd8; ld.shared.u32 %r4, [%rd8];
    st.global.u32 [%rd4], %r4;"""


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_barrier(device: Device, seed: int | None) -> None:
    x = np.arange(128, dtype=np.uint32)
    body = SHARED.format("bar.sync 0;", 64) + ACROSS
    found, _ = run(device, body, x, x, threads=128, seed=seed)
    np.testing.assert_array_equal(found, x ^ 64)


@pytest.mark.parametrize("other", [64, 1])  # of another warp; of the same one
def test_missing_barrier_is_a_race(device: Device, other: int) -> None:
    x = np.arange(128, dtype=np.uint32)
    with pytest.raises(FaultError, match="race"):
        run(device, SHARED.format("", other) + ACROSS, x, x, threads=128)


def test_write_during_reads_is_a_race(device: Device) -> None:
    x = np.arange(128, dtype=np.uint32)
    body = SHARED.format("bar.sync 0;", 64) + ACROSS
    with pytest.raises(FaultError, match="race"):
        run(device, body + "st.shared.u32 [%rd7], %r4;", x, x, threads=128)
    run(device, body + "bar.sync 0; st.shared.u32 [%rd7], %r4;", x, x, threads=128)


def test_race_in_device_memory(device: Device) -> None:
    body = """xor.b32 %r3, %r1, 32; mul.wide.u32 %rd8, %r3, 4; add.s64 %rd8, %rd1, %rd8;
        st.global.u32 [%rd4], %r1; {} ld.global.u32 %r4, [%rd8]; st.global.u32 [%rd5], %r4;"""
    x = np.zeros(64, np.uint32)
    with pytest.raises(FaultError, match="race"):
        run(device, body.format(""), x, x, threads=64)
    _, found = run(device, body.format("bar.sync 0;"), x, x, threads=64)
    assert found.tolist() == [i ^ 32 for i in range(64)]


def test_blocks_that_write_one_word_are_a_race(device: Device) -> None:
    x = np.zeros(1, np.uint32)
    body = "mov.u32 %r2, %ctaid.x; st.global.u32 [%rd1], {};"
    with pytest.raises(FaultError, match="race"):
        run(device, body.format("%r2"), x, x, threads=1, blocks=4)
    assert run(device, body.format("7"), x, x, threads=1, blocks=4)[0] == 7  # all the same


def test_divergent_barrier(device: Device) -> None:
    body = "setp.gt.u32 %p1, %r1, 40; @%p1 bra off; bar.sync 0; off: st.global.u32 [%rd4], %r1;"
    x = np.zeros(64, np.uint32)
    run(device, body + "bra.uni end; end: ", x, x, threads=40)
    with pytest.raises(FaultError, match="waits for ever"):
        run(device, body + "bar.sync 0;", x, x, threads=64)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("ld.global.f32 %f1, [%rd4+4];", "outside"),
        ("st.global.f32 [%rd4+-4], 0f00000000;", "outside"),
        ("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+8];", "misaligned"),
        ("ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%rd7];", "misaligned"),
        ("ld.shared.f32 %f1, [%rd7+3972];", "outside"),
        ("ld.global.u64 %rd8, [%rd1+12];", "misaligned"),
        ("cp.async.cg.shared.global [%rd6], [%rd1+4], 16; cp.async.wait_all;", "misaligned"),
        ("cp.async.cg.shared.global [%rd6], [%rd1], 16;", "under way"),
        ("mov.u32 %r2, 0; div.u32 %r3, %r1, %r2;", "divided by zero"),
    ],
)
def test_faults(device: Device, body: str, what: str) -> None:
    x = np.zeros(32, np.float32)
    with pytest.raises(FaultError, match=what):
        run(device, body, x, x)


def test_asynchronous_copies_complete_late(device: Device) -> None:
    x = np.arange(4, dtype=np.uint32)
    body = """st.shared.v4.u32 [%rd6], {{9, 9, 9, 9}}; cp.async.cg.shared.global [%rd6], [%rd1], 16;
        {} ld.shared.v4.u32 {{%r2, %r3, %r4, %r5}}, [%rd6]; {}
        st.global.v4.u32 [%rd2], {{%r2, %r3, %r4, %r5}};"""
    wait = "cp.async.wait_all;"
    assert run(device, body.format(wait, ""), x, x, threads=1)[1].tolist() == [0, 1, 2, 3]
    assert run(device, body.format("", wait), x, x, threads=1)[1].tolist() == [9, 9, 9, 9]


SPIN = """mov.u32 %r2, %ctaid.x; mul.wide.u32 %rd8, %r2, 4; add.s64 %rd8, %rd2, %rd8;
    atom.global.add.u32 %r3, [%rd1], 1; mov.u32 %r5, %nctaid.x;
    wait: ld.acquire.gpu.global.s32 %r4, [%rd1]; setp.lt.s32 %p1, %r4, {}; @%p1 bra wait;
    st.global.u32 [%rd8], %r4;"""


@pytest.mark.parametrize("seed", [None, 4])
def test_grid_barrier(device: Device, seed: int | None) -> None:
    count, out = np.zeros(1, np.int32), np.zeros(5, np.int32)
    _, found = run(device, SPIN.format("%r5"), count, out, threads=1, blocks=5, seed=seed)
    assert found.tolist() == [5] * 5
    with pytest.raises(FaultError, match="for ever"):
        run(device, SPIN.format("6"), count, out, threads=1, blocks=5, seed=seed)


NEIGHBOUR = """mov.u32 %r2, %ctaid.x; mul.wide.u32 %rd8, %r2, 4; add.s64 %rd8, %rd2, %rd8;
    add.u32 %r5, %r2, 7; st.global.u32 [%rd8+4], %r5; membar.gl; atom.global.add.u32 %r3, [%rd1], 1;
    wait: ld.acquire.gpu.global.s32 %r4, [%rd1]; setp.lt.s32 %p1, %r4, 2; @%p1 bra wait;
    xor.b32 %r2, %r2, 1; mul.wide.u32 %rd8, %r2, 16; {}"""


def test_volatile_reads_bypass_the_cache(device: Device) -> None:
    count, out = np.zeros(1, np.int32), np.zeros(4, np.uint32)
    plain = "ld.global.u32 %r6, [%rd2+4];"
    with pytest.raises(FaultError, match="another thread wrote"):
        run(device, NEIGHBOUR.format(plain), count, out, threads=1, blocks=2)
    copied = """cp.async.cg.shared.global [%rd6], [%rd2], 16; cp.async.wait_all;
        ld.shared.u32 %r6, [%rd6+4]; setp.ne.u32 %p2, %r2, 0; @%p2 st.global.u32 [%rd2], %r6;"""
    _, found = run(device, NEIGHBOUR.format(copied), count, out, threads=1, blocks=2)
    assert found.tolist() == [7, 7, 8, 0]


def test_a_shuffle(device: Device) -> None:
    x = np.arange(64, dtype=np.uint32)
    body = "shfl.sync.bfly.b32 %r3|%p1, %r1, 5, 31, -1; st.global.u32 [%rd4], %r3;"
    np.testing.assert_array_equal(run(device, body, x, x, threads=64, seed=3)[0], x ^ 5)
    with pytest.raises(FaultError):
        run(device, "setp.gt.u32 %p1, %r1, 3; @%p1 bra off;" + body + "off:", x, x)


@pytest.mark.parametrize("kind", ["bf16", "tf32"])
def test_matrix_multiply_accumulate(device: Device, kind: str) -> None:
    """Fragments as PTX ISA 9.7.15.5 gives them: row and column of each element of a register."""
    rng = np.random.default_rng(2)
    depth = 16 if kind == "bf16" else 8
    a, b = (
        np.ascontiguousarray(rng.normal(size=size).astype(np.float32).view(np.uint32) & 0xFFFF0000)
        .view(np.float32)
        for size in ((16, depth), (depth, 8))
    )  # fmt: skip
    c = rng.normal(size=(16, 8)).astype(np.float32)
    words = np.zeros((WARP, 10), np.uint32)
    for lane in range(WARP):
        group, place = divmod(lane, 4)
        if kind == "bf16":
            for i in range(8):
                row = group if i in (0, 1, 4, 5) else group + 8
                column = place * 2 + i % 2 + (8 if i >= 4 else 0)
                words[lane, i // 2] |= a[row, column].view(np.uint32) >> 16 << 16 * (i % 2)
            for i in range(4):
                row = place * 2 + i % 2 + (8 if i >= 2 else 0)
                words[lane, 4 + i // 2] |= b[row, group].view(np.uint32) >> 16 << 16 * (i % 2)
        else:
            for i in range(4):
                words[lane, i] = a[group + 8 * (i % 2), place + 4 * (i // 2)].view(np.uint32)
            for i in range(2):
                words[lane, 4 + i] = b[place + 4 * i, group].view(np.uint32)
        for i in range(4):
            words[lane, 6 + i] = c[group + 8 * (i // 2), place * 2 + i % 2].view(np.uint32)
    shape = "m16n8k16" if kind == "bf16" else "m16n8k8"
    loads = "".join(f"ld.global.u32 %r{10 + i}, [%rd8+{4 * i}];" for i in range(10))
    body = f"""mul.wide.u32 %rd8, %r1, 40; add.s64 %rd8, %rd1, %rd8; {loads}
        mov.b32 %f6, %r16; mov.b32 %f7, %r17; mov.b32 %f8, %r18; mov.b32 %f9, %r19;
        mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 {{%f1, %f2, %f3, %f4}},
        {{%r10, %r11, %r12, %r13}}, {{%r14, %r15}}, {{%f6, %f7, %f8, %f9}};
        mul.wide.u32 %rd9, %r1, 16; add.s64 %rd9, %rd2, %rd9;
        st.global.v4.f32 [%rd9], {{%f1, %f2, %f3, %f4}};"""
    _, sums = run(device, body, words, np.zeros((WARP, 4), np.float32))
    found = np.zeros((16, 8), np.float32)
    for lane in range(WARP):
        group, place = divmod(lane, 4)
        for i in range(4):
            found[group + 8 * (i // 2), place * 2 + i % 2] = sums[lane, i]
    np.testing.assert_allclose(found, a.astype(np.float64) @ b + c, rtol=1e-6)


def test_too_much_shared_memory(device: Device) -> None:
    x = np.zeros(1)
    with pytest.raises(FaultError, match="threads a block"):
        run(device, "", x, x, threads=512)
    with pytest.raises(ValueError, match="not emulated"):
        run(device, "tanh.approx.f32 %f1, %f2;", x, x)
