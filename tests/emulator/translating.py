"""Blocks of PTX as Python: one NumPy statement for all threads that are there, an instruction each.

A register is an array with a number for each thread; `T` are the threads at work. The registers'
arrays are globals of the code: `r7u`, `r7i` and `r7f` are the bits of %r7 as a whole number without
a sign, with one, and as a float.
"""

from __future__ import annotations

import re
import struct
from types import CodeType

from tests.emulator.reading import BYTES, Block, Instruction, Program

_SPECIAL = {
    "%tid.x": "tid", "%ntid.x": "ntid", "%ctaid.x": "ctaid_x", "%ctaid.y": "ctaid_y",
    "%ctaid.z": "ctaid_z", "%nctaid.x": "nctaid_x", "%nctaid.y": "nctaid_y",
    "%nctaid.z": "nctaid_z", "%laneid": "lane", "%dynamic_smem_size": "dynamic",
    "%tid.y": "zero", "%tid.z": "zero", "%ntid.y": "one", "%ntid.z": "one",
}  # fmt: skip
_BINARY = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^"}
_COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<",
             "ls": "<=", "hi": ">", "hs": ">="}  # fmt: skip
_ADDRESS = re.compile(r"^\[([%$\w]+)(?:\+(-?\d+))?\]$")


class Translator:
    """Of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def code(self) -> CodeType:
        """Defines `block_0`, `block_1`, …: functions of T, the running threads; one that ends in a
        jump with a condition returns, for each of them, whether it goes there."""
        lines = []
        for number, block in enumerate(self.program.blocks):
            lines += [f"def block_{number}(T):", *(f"    {line}" for line in self._block(block))]
        return compile("\n".join(lines), self.program.name[:40], "exec")

    def _block(self, block: Block) -> list[str]:
        lines: list[str] = []
        for each in block.instructions:
            operation = each.words[0]
            if operation in ("bra", "ret", "exit"):
                if each.guard:
                    lines.append(f"return {self._guard(each)}")
            elif each.guard:
                lines.append(f"whole = T; T = only(T, {self._guard(each)})")
                lines += [*self._instruction(each), "T = whole"]
            else:
                lines += self._instruction(each)
        return lines or ["pass"]

    def _guard(self, each: Instruction) -> str:
        return f"{'~' if each.unless else ''}{_name(each.guard)}[T]"

    def _read(self, operand: str, kind: str) -> str:
        """An expression for an operand read as a type."""
        size, letter = BYTES[kind], _letter(kind)
        if operand in _SPECIAL:
            return f"{_SPECIAL[operand]}[T]"
        if operand in self.program.registers:
            own = self.program.registers[operand]
            if own == "pred":
                return f"{_name(operand)}[T]"
            if BYTES[own] == size:
                return f"{_name(operand)}{letter}[T]"
            return f"{_name(operand)}u[T].astype('u{size}').view('{letter}{size}')"
        if operand in self.program.shared:
            return f"u{size}({self.program.shared[operand]})"
        if operand.startswith(("0f", "0d")):
            raw = bytes.fromhex(operand[2:])
            value = struct.unpack(">f" if len(raw) == 4 else ">d", raw)[0]
            return f"f{size}({float(value)!r})" if value - value == 0 else (
                f"f{size}(float('{value}'))")  # fmt: skip
        if kind == "pred":
            return f"boolean({int(operand)})"
        value = int(operand, 0) & (1 << 8 * size) - 1
        if letter == "i" and value >> 8 * size - 1:
            value -= 1 << 8 * size
        return f"{letter}{size}({value})"

    def _write(self, operand: str, kind: str, expression: str) -> str:
        """A statement that gives a register a value of a type."""
        if operand in ("_", "%_"):
            return "pass"
        own = self.program.registers[operand]
        if own == "pred":
            return f"{_name(operand)}[T] = {expression}"
        letter = _letter(kind)
        if BYTES[own] > BYTES[kind]:  # widened as its sign says
            letter = "i" if letter == "i" else "u"
            expression = f"({expression}).view('{letter}{BYTES[kind]}')"
        return f"{_name(operand)}{letter}[T] = {expression}"

    def _address(self, operand: str) -> str:
        found = _ADDRESS.match(operand)
        if found is None:
            raise ValueError(f"no address: {operand}")
        base = self._read(found[1], "u64")
        return base if found[2] is None else f"{base} + u8({int(found[2]) & (1 << 64) - 1})"

    def _instruction(self, each: Instruction) -> list[str]:
        words, given = each.words, each.operands
        operation, kind = words[0], words[-1]
        method = getattr(self, f"_{operation}", None)
        if method is not None:
            lines = method(each)
            return [lines] if isinstance(lines, str) else list(lines)
        if operation in _BINARY:
            a, b = (self._read(operand, kind) for operand in given[1:])
            return [self._write(given[0], kind, f"{a} {_BINARY[operation]} {b}")]
        raise ValueError(f"not emulated: {each.text}")

    def _mov(self, each: Instruction) -> list[str] | str:
        kind, (to, source) = each.words[-1], each.operands
        if to.startswith("{"):  # two halves of one
            halves = f"({self._read(source, 'b64')}).reshape(-1, 1).view('u4')"
            return [f"H = ascontiguous({halves})"] + [
                self._write(name.strip(), "b32", f"H[:, {i}]")
                for i, name in enumerate(to.strip("{}").split(","))
            ]
        if source.startswith("{"):
            low, high = (self._read(part.strip(), "u32") for part in source.strip("{}").split(","))
            return self._write(to, "b64", f"u8(1) * {low} | (u8(1) * {high}) << u8(32)")
        return self._write(to, kind, self._read(source, kind))

    def _mul(self, each: Instruction) -> str:
        kind, (to, a, b) = each.words[-1], each.operands
        left, right = self._read(a, kind), self._read(b, kind)
        if "wide" in each.words:
            wide = f"{_letter(kind)}{2 * BYTES[kind]}"
            return self._write(to, f"{kind[0]}{16 * BYTES[kind]}", f"{wide}(1) * {left} * {right}")
        if "hi" in each.words:
            return self._write(to, kind, f"high({left}, {right}, '{_letter(kind)}8')")
        return self._write(to, kind, f"{left} * {right}")

    def _mad(self, each: Instruction) -> str:
        kind, (to, a, b, c) = each.words[-1], each.operands
        left, right, more = (self._read(operand, kind) for operand in (a, b, c))
        return self._write(to, kind, f"{left} * {right} + {more}")

    def _fma(self, each: Instruction) -> str:
        kind, (to, *rest) = each.words[-1], each.operands
        a, b, c = (self._read(operand, kind) for operand in rest)
        if kind == "f32":  # the product is exact in float64
            return self._write(to, kind, f"f4(f8(1) * {a} * {b} + {c})")
        return self._write(to, kind, f"{a} * {b} + {c}")

    def _div(self, each: Instruction) -> str:
        kind, (to, a, b) = each.words[-1], each.operands
        left, right = self._read(a, kind), self._read(b, kind)
        if kind[0] == "f":
            return self._write(to, kind, f"{left} / {right}")
        return self._write(to, kind, f"quotient({left}, {right})")

    def _rem(self, each: Instruction) -> str:
        kind, (to, a, b) = each.words[-1], each.operands
        return self._write(to, kind, f"remainder({self._read(a, kind)}, {self._read(b, kind)})")

    def _shl(self, each: Instruction) -> str:
        return self._shifted(each, "<<")

    def _shr(self, each: Instruction) -> str:
        return self._shifted(each, ">>")

    def _shifted(self, each: Instruction, sign: str) -> str:
        kind, (to, a, by) = each.words[-1], each.operands
        letter, size = _letter(kind), BYTES[kind]
        return self._write(
            to, kind, f"{self._read(a, kind)} {sign} {letter}{size}({self._read(by, 'u32')})"
        )

    def _not(self, each: Instruction) -> str:
        kind, (to, a) = each.words[-1], each.operands
        return self._write(to, kind, f"~{self._read(a, kind)}")

    def _neg(self, each: Instruction) -> str:
        kind, (to, a) = each.words[-1], each.operands
        return self._write(to, kind, f"-{self._read(a, kind)}")

    def _abs(self, each: Instruction) -> str:
        return self._of_one(each, "absolute({})")

    def _sqrt(self, each: Instruction) -> str:
        return self._of_one(each, "root({})")

    def _rcp(self, each: Instruction) -> str:
        one = f"f{BYTES[each.words[-1]]}(1)"
        return self._of_one(each, one + " / {}")

    def _popc(self, each: Instruction) -> str:
        return self._of_one(each, "bit_count({})")

    def _of_one(self, each: Instruction, text: str) -> str:
        kind, (to, a) = each.words[-1], each.operands
        return self._write(to, kind, text.format(self._read(a, kind)))

    def _min(self, each: Instruction) -> str:
        return self._of_two(each, "minimum" if each.words[-1][0] != "f" else "fmin")

    def _max(self, each: Instruction) -> str:
        return self._of_two(each, "maximum" if each.words[-1][0] != "f" else "fmax")

    def _of_two(self, each: Instruction, function: str) -> str:
        kind, (to, a, b) = each.words[-1], each.operands
        return self._write(to, kind, f"{function}({self._read(a, kind)}, {self._read(b, kind)})")

    def _selp(self, each: Instruction) -> str:
        kind, (to, a, b, which) = each.words[-1], each.operands
        return self._write(
            to, kind,
            f"where({_name(which)}[T], {self._read(a, kind)}, {self._read(b, kind)})",
        )  # fmt: skip

    def _setp(self, each: Instruction) -> str:
        sign, kind = each.words[1], each.words[-1]
        to, a, b = each.operands
        left, right = self._read(a, kind), self._read(b, kind)
        if sign in ("nan", "num"):
            expression = f"isnan({left}) | isnan({right})"
            return self._write(to, "pred", expression if sign == "nan" else f"~({expression})")
        if kind[0] == "f" and sign.endswith("u"):  # or one of them is a NaN
            opposite = {"eq": "!=", "ne": "==", "lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
            if sign == "neu":
                return self._write(to, "pred", f"{left} != {right}")
            if sign == "equ":
                return self._write(
                    to, "pred", f"({left} == {right}) | isnan({left}) | isnan({right})"
                )
            return self._write(to, "pred", f"~({left} {opposite[sign[:-1]]} {right})")
        if kind[0] == "f" and sign == "ne":  # ordered: false for a NaN
            return self._write(to, "pred", f"({left} < {right}) | ({left} > {right})")
        return self._write(to, "pred", f"{left} {_COMPARED[sign]} {right}")

    def _cvt(self, each: Instruction) -> str:
        to_kind, from_kind = each.words[-2], each.words[-1]
        to, a = each.operands
        value = self._read(a, from_kind)
        if to_kind[0] != "f" and from_kind[0] == "f":
            value = f"{'trunc' if 'rzi' in each.words else 'rint'}({value})"
        return self._write(to, to_kind, f"({value}).astype('{_letter(to_kind)}{BYTES[to_kind]}')")

    def _cvta(self, each: Instruction) -> str:
        space = next(w for w in each.words if w in ("global", "shared", "local"))
        to, a = each.operands
        value = self._read(a, "u64")
        if space == "shared":
            value += " - WINDOW" if "to" in each.words else " + WINDOW"
        return self._write(to, "u64", value)

    def _ld(self, each: Instruction) -> list[str]:
        kind, (to, place) = each.words[-1], each.operands
        if "param" in each.words:
            name = place.strip("[]")
            return [self._write(to, kind, f"{name}_{_letter(kind)}")]
        space = "shared" if "shared" in each.words else "device"
        if "global" not in each.words and space == "device":
            raise ValueError(f"not emulated: {each.text}")
        names = [name.strip() for name in to.strip("{}").split(",")]
        size, letter = BYTES[kind], _letter(kind)
        fresh = ", fresh=True" if "acquire" in each.words else ""
        return [
            f"V = {space}.load(T, {self._address(place)}, {size}, {len(names)}{fresh})",
            *(
                self._write(name, kind, f"V[{i}].view('{letter}{size}')")
                for i, name in enumerate(names)
            ),
        ]

    def _st(self, each: Instruction) -> str:
        kind, (place, value) = each.words[-1], each.operands
        space = "shared" if "shared" in each.words else "device"
        if "global" not in each.words and space == "device":
            raise ValueError(f"not emulated: {each.text}")
        values = ", ".join(self._read(name.strip(), kind) for name in value.strip("{}").split(","))
        return f"{space}.store(T, {self._address(place)}, {BYTES[kind]}, [{values}])"

    def _atom(self, each: Instruction) -> str:
        kind, operation = each.words[-1], each.words[-2]
        to, place, value = each.operands
        space = "shared" if "shared" in each.words else "device"
        return self._write(
            to, kind,
            f"{space}.atomic(T, {self._address(place)}, '{operation}', "
            f"'{_letter(kind)}{BYTES[kind]}', {self._read(value, kind)})",
        )  # fmt: skip

    def _cp(self, each: Instruction) -> str:
        if "wait_all" in each.words:
            return "arrive(T)"
        to, source, size = each.operands
        if size != "16":
            raise ValueError(f"not emulated: {each.text}")
        return f"copy_later(T, {self._address(to)}, {self._address(source)})"

    def _membar(self, each: Instruction) -> str:
        return "pass"

    _fence = _membar

    def _bar(self, each: Instruction) -> str:
        if each.text.split() != ["bar.sync", "0"]:
            raise ValueError(f"not emulated: {each.text}")
        return "pass"

    def _shfl(self, each: Instruction) -> list[str]:
        mode = each.words[2]
        to, value, by, clamp, mask = each.operands
        register, _, there = to.partition("|")
        lines = [
            f"V, W = shuffled(T, '{mode}', {self._read(value, 'u32')}, {self._read(by, 'u32')}, "
            f"{self._read(clamp, 'u32')}, {self._read(mask, 'u32')})",
            self._write(register, "b32", "V"),
        ]
        return [*lines, self._write(there, "pred", "W")] if there else lines

    def _mma(self, each: Instruction) -> list[str]:
        sums, left, right, before = (
            [name.strip() for name in operand.strip("{}").split(",")] for operand in each.operands
        )
        kind = {"m16n8k16": "bf16", "m16n8k8": "tf32"}[each.words[3]]
        if list(each.words[4:]) != ["row", "col", "f32", kind, kind, "f32"]:
            raise ValueError(f"not emulated: {each.text}")

        def listed(names: list[str], of: str) -> str:
            return f"[{', '.join(self._read(name, of) for name in names)}]"

        return [
            f"V = matrices(T, '{kind}', {listed(left, 'u32')}, {listed(right, 'u32')}, "
            f"{listed(before, 'f32')})",
            *(self._write(name, "f32", f"V[{i}]") for i, name in enumerate(sums)),
        ]


def _name(register: str) -> str:
    return "R_" + register.lstrip("%").replace("$", "_")


def _letter(kind: str) -> str:
    """NumPy's for a type's numbers."""
    return {"s": "i", "f": "f"}.get(kind[0], "u")
