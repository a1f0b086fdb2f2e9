"""PTX, NVIDIA's assembler, taken apart: as much of it as Numba writes for this project.

Source: Parallel Thread Execution ISA, version 9.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ENTRY = re.compile(r"\.visible \.entry (\w+)\s*\((.*?)\)(.*?)\{(.*)\}\s*$", re.DOTALL)
_PARAMETER = re.compile(r"\.param (?:\.align \d+ )?\.(\w+) (\w+)")
_SHARED = re.compile(r"(\.extern )?\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\]")
_REGISTERS = re.compile(r"^\.reg \.(\w+)\s+(%?\w+)(?:<(\d+)>)?$")
_STATEMENT = re.compile(r"^(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.DOTALL)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")
_LABEL = re.compile(r"^(\$?\w+):\s*", re.DOTALL)

BYTES = {"pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "b32": 4, "u32": 4,
         "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8}  # fmt: skip
# instructions at which threads wait for one another
TOGETHER = ("bar.", "barrier.", "shfl.", "mma.", "vote.")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of them: `unless` and `guard` of its predicate, its words and its operands."""

    guard: str
    unless: bool
    words: tuple[str, ...]
    operands: tuple[str, ...]
    text: str


@dataclass(slots=True)
class Block:
    """Instructions that are run from first to last; then a jump to `target` by those threads that
    the last one's guard lets go there, and to the next block by the others."""

    instructions: list[Instruction] = field(default_factory=list)

    @property
    def first(self) -> str:
        return ".".join(self.instructions[0].words) if self.instructions else ""


@dataclass(slots=True)
class Program:
    """A kernel.

    parameters  their names with the type of each
    shared      offset of each variable of shared memory; static: bytes of those of a known size
    registers   type of each
    blocks      in the order of the text; labels: number of the block that one stands before
    """

    name: str
    parameters: list[tuple[str, str]]
    threads: int
    shared: dict[str, int]
    static: int
    registers: dict[str, str]
    blocks: list[Block]
    labels: dict[str, int]

    @property
    def waits_for_blocks(self) -> bool:
        """Whether blocks of the grid wait for one another, so that all must be resident."""
        return any("acquire" in i.words for block in self.blocks for i in block.instructions)


def read(ptx: str) -> Program:
    """The one kernel of a text. Raises ValueError for what is not understood."""
    text = re.sub(r"//[^\n]*", "", ptx)
    found = _ENTRY.search(text)
    if found is None or ".func" in text:
        raise ValueError("not one kernel without calls")
    name, parameters, bounds, body = found.groups()
    threads = re.search(r"\.maxntid (\d+)", bounds)
    shared, static = _shared(text)
    registers, blocks, labels = _body(body)
    return Program(
        name, [(n, kind) for kind, n in _PARAMETER.findall(parameters)],
        int(threads[1]) if threads else 1024, shared, static, registers, blocks, labels,
    )  # fmt: skip


def _shared(text: str) -> tuple[dict[str, int], int]:
    places: dict[str, int] = {}
    end = 0
    found = _SHARED.findall(text)
    for extern, align, name, size in found:
        if not extern:
            end = -(-end // int(align)) * int(align)
            places[name] = end
            end += int(size)
    end = -(-end // 16) * 16
    places.update({name: end for extern, _, name, _ in found if extern})
    return places, end


def _body(body: str) -> tuple[dict[str, str], list[Block], dict[str, int]]:
    registers: dict[str, str] = {}
    blocks, labels = [Block()], {}

    def new_block() -> None:
        if blocks[-1].instructions:
            blocks.append(Block())

    for raw in body.split(";"):
        statement = raw.strip()
        while True:
            statement = statement.lstrip("{} \t\n")
            label = _LABEL.match(statement)
            if label is None:
                break
            new_block()
            labels[label[1]] = len(blocks) - 1
            statement = statement[label.end() :]
        if not statement or statement.startswith((".pragma", ".loc")):
            continue
        declared = _REGISTERS.match(statement)
        if declared is not None:
            kind, name, count = declared.groups()
            names = [f"{name}{i}" for i in range(int(count))] if count else [name]
            registers.update(dict.fromkeys(names, kind))
            continue
        parts = _STATEMENT.match(statement)
        if parts is None:
            raise ValueError(f"not understood: {statement}")
        unless, guard, words, operands = parts.groups()
        each = Instruction(
            guard or "", bool(unless), tuple(words.split(".")),
            tuple(_OPERAND.findall(operands)), statement,
        )  # fmt: skip
        together = words.startswith(TOGETHER)
        if together:
            new_block()
        blocks[-1].instructions.append(each)
        if together or each.words[0] in ("bra", "ret", "exit") or "acquire" in each.words:
            new_block()
    return registers, blocks, labels
