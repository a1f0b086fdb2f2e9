"""Write fastseq/text/words.npz: the Unicode tables of the tokenizer `unicode`.

    python tools/make_word_tables.py UCD

UCD is a folder of the Unicode Character Database (Debian's package unicode-data installs it as
/usr/share/unicode). The version is that of the database, whatever Python runs this.

Every table is in two stages: entry c is values[index[c >> 7] << 7 | c & 127].

properties  uint32 of each code point
    bits 0-4    Word_Break (UAX #29), numbered as WORD_BREAK below
    bit 5       letter, number or emoji: a word without any is dropped
    bit 6       Extended_Pictographic
    bits 7-9    script written without spaces: SCRIPTS
    bits 10-12  Grapheme_Cluster_Break, numbered as CLUSTERS
    bit 13      Default_Ignorable_Code_Point
    bit 14      NFC_Quick_Check is No or Maybe
    bits 16-23  Canonical_Combining_Class
decomposed  the full canonical decomposition (NFD), Hangul syllables excepted
nfkc, fold  the character's NFKC; its NFKC_Casefold, but default ignorables are themselves, and
            the Greek iota below a vowel stays one: it is folded after marks are in order
nfkc_bare, fold_bare
            the same without accents: decomposed, characters of a combining class dropped, composed
composed    int64[n, 2], ascending: first << 21 | second of a canonical composition, the composite

A mapping is an int32, added to the code point if below MULTIPLE; otherwise MULTIPLE + (start << 5 |
length) for the characters pool[start:start + length].
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from make_unicode_tables import CODE_POINTS, mapping, two_stage

OUT = Path(__file__).resolve().parent.parent / "fastseq" / "text" / "words.npz"

WORD_BREAK = (
    "Other", "CR", "LF", "Newline", "Extend", "ZWJ", "Format", "Regional_Indicator", "Katakana",
    "Hebrew_Letter", "ALetter", "Single_Quote", "Double_Quote", "MidNumLet", "MidLetter", "MidNum",
    "Numeric", "ExtendNumLet", "WSegSpace",
)  # fmt: skip
CLUSTERS = ("Other", "Extend", "SpacingMark", "L", "V", "T", "LV", "LVT")
# scripts of bigrams, in the order of their numbers from 1: Han with kana, …
SCRIPTS = (
    ("Hani", "Hira", "Kana"), ("Hang",), ("Thai",), ("Laoo",), ("Khmr",), ("Mymr",),
)  # fmt: skip
SURROGATES = range(0xD800, 0xE000)
HANGUL = range(0xAC00, 0xD7A4)
YPOGEGRAMMENI = 0x345


class Database:
    """The files of a Unicode Character Database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        head = (folder / "Blocks.txt").read_text("utf-8").partition("\n")[0]  # # Blocks-15.0.0.txt
        self.version = head.rpartition("-")[2].removesuffix(".txt")
        self.category = ["Cn"] * CODE_POINTS
        self.ccc = np.zeros(CODE_POINTS, np.uint32)
        self.canonical: dict[int, tuple[int, ...]] = {}
        self.compatible: dict[int, tuple[int, ...]] = {}
        first = 0
        for line in (folder / "UnicodeData.txt").read_text("utf-8").splitlines():
            fields = line.split(";")
            code = int(fields[0], 16)
            if not fields[1].endswith("Last>"):
                first = code
            for each in range(first, code + 1):
                self.category[each] = fields[2]
                self.ccc[each] = int(fields[3])
            if fields[5]:
                *tag, parts = fields[5].rpartition("> ")
                to = tuple(int(part, 16) for part in parts.split())
                (self.compatible if any(tag) else self.canonical)[code] = to

    def lines(self, name: str) -> Iterator[tuple[range, list[str]]]:
        """(code points, the other fields) of each line of a file of properties."""
        for line in (self.folder / name).read_text("utf-8").splitlines():
            fields = [field.strip() for field in line.partition("#")[0].split(";")]
            if fields[0]:
                low, _, high = fields[0].partition("..")
                yield range(int(low, 16), int(high or low, 16) + 1), fields[1:]

    def having(self, name: str, *wanted: str) -> np.ndarray:
        """bool[CODE_POINTS]: the lines of a file whose first fields are `wanted`."""
        found = np.zeros(CODE_POINTS, np.bool_)
        for codes, fields in self.lines(name):
            if tuple(fields[: len(wanted)]) == wanted:
                found[codes.start : codes.stop] = True
        return found

    def numbered(self, name: str, names: tuple[str, ...]) -> np.ndarray:
        """uint32[CODE_POINTS]: the number of each code point's value in `names`, else 0."""
        found = np.zeros(CODE_POINTS, np.uint32)
        for codes, fields in self.lines(name):
            if fields[0] in names:
                found[codes.start : codes.stop] = names.index(fields[0])
        return found

    # ---- decomposition and composition

    def decompose(self, codes: list[int], compatible: bool = False) -> list[int]:
        """NFD, or NFKD, of a string."""
        out: list[int] = []
        for code in codes:
            to = self.canonical.get(code)
            if to is None and compatible:
                to = self.compatible.get(code)
            if code in HANGUL:
                s = code - HANGUL.start
                jamo = [0x1100 + s // 588, 0x1161 + s % 588 // 28, 0x11A7 + s % 28]
                out += jamo if s % 28 else jamo[:2]
            elif to is None:
                out.append(code)
            else:
                out += self.decompose(list(to), compatible)
        for i in range(1, len(out)):
            while i and self.ccc[out[i]] and self.ccc[out[i - 1]] > self.ccc[out[i]]:
                out[i - 1], out[i] = out[i], out[i - 1]
                i -= 1
        return out

    @cached_property
    def pairs(self) -> dict[tuple[int, int], int]:
        """Canonical compositions, without those of Hangul syllables."""
        excluded = self.having("DerivedNormalizationProps.txt", "Full_Composition_Exclusion")
        return {
            (to[0], to[1]): code
            for code, to in self.canonical.items()
            if len(to) == 2 and not excluded[code]
        }

    def compose(self, codes: list[int]) -> list[int]:
        """NFC of a decomposed string."""
        out: list[int] = []
        starter, before = -1, -1
        for code in codes:
            ccc = int(self.ccc[code])
            if starter >= 0 and (before < ccc or before == -1):
                made = self._syllable(out[starter], code) or self.pairs.get((out[starter], code))
                if made is not None:
                    out[starter] = made
                    continue
            out.append(code)
            if ccc == 0:
                starter, before = len(out) - 1, -1
            else:
                before = ccc
        return out

    @staticmethod
    def _syllable(first: int, second: int) -> int | None:
        if 0x1100 <= first < 0x1113 and 0x1161 <= second < 0x1176:
            return HANGUL.start + (first - 0x1100) * 588 + (second - 0x1161) * 28
        lv = first in HANGUL and (first - HANGUL.start) % 28 == 0
        return first + second - 0x11A7 if lv and 0x11A8 <= second < 0x11C3 else None


def scripts_of(data: Database) -> np.ndarray:
    """uint32[CODE_POINTS]: 1 + the place in SCRIPTS of the characters of one of them that begin a
    grapheme cluster: letters, the numerals among them, some vowel signs."""
    cluster = data.numbered("auxiliary/GraphemeBreakProperty.txt", CLUSTERS)
    aliases = {}
    for line in (data.folder / "PropertyValueAliases.txt").read_text("utf-8").splitlines():
        fields = [field.strip() for field in line.partition("#")[0].split(";")]
        if fields[0] == "sc":
            aliases[fields[2]] = fields[1]
    script: list[tuple[str, ...]] = [()] * CODE_POINTS
    for codes, (name, *_) in data.lines("Scripts.txt"):
        for code in codes:
            script[code] = (aliases[name],)
    for codes, (names, *_) in data.lines("ScriptExtensions.txt"):
        for code in codes:
            script[code] = tuple(names.split())
    out = np.zeros(CODE_POINTS, np.uint32)
    for number, names in enumerate(SCRIPTS, 1):
        for code in range(CODE_POINTS):
            category = data.category[code]
            mark = category[0] == "M" and cluster[code] == 0
            if not (category[0] == "L" or category == "Nl" or mark):
                continue
            # the kana marks and Han signs that neighbouring scripts use as well
            own = [name for name in script[code] if name in names]
            if own and (len(own) == len(script[code]) or number == 1):
                out[code] = number
    return out


def properties(data: Database) -> np.ndarray:
    """uint32[CODE_POINTS], as the docstring of this file has it."""
    break_of = data.numbered("auxiliary/WordBreakProperty.txt", WORD_BREAK)
    cluster = data.numbered("auxiliary/GraphemeBreakProperty.txt", CLUSTERS)
    picture = data.having("emoji/emoji-data.txt", "Extended_Pictographic")
    ignorable = data.having("DerivedCoreProperties.txt", "Default_Ignorable_Code_Point")
    unstable = np.zeros(CODE_POINTS, np.bool_)
    for answer in ("N", "M"):
        unstable |= data.having("DerivedNormalizationProps.txt", "NFC_QC", answer)
    letter = np.array([category[0] in "LN" for category in data.category])
    keep = letter | picture | (break_of == WORD_BREAK.index("Regional_Indicator"))
    return (
        break_of
        | keep.astype(np.uint32) << 5
        | picture.astype(np.uint32) << 6
        | scripts_of(data) << 7
        | cluster << 10
        | ignorable.astype(np.uint32) << 13
        | unstable.astype(np.uint32) << 14
        | data.ccc << 16
    )


def mappings(data: Database) -> dict[str, Callable[[str], str]]:
    """The mappings by name, as functions of one character."""
    ignorable = data.having("DerivedCoreProperties.txt", "Default_Ignorable_Code_Point")
    folded = {
        code: [int(part, 16) for part in to.split()]
        for codes, (name, *rest) in data.lines("DerivedNormalizationProps.txt")
        if name == "NFKC_CF"
        for to in rest[:1] or [""]
        for code in codes
    }

    def nfkc(code: int) -> list[int]:
        return data.compose(data.decompose([code], compatible=True))

    def fold(code: int) -> list[int]:
        parts = data.decompose([code], compatible=True)
        if YPOGEGRAMMENI not in parts:
            return folded.get(code, [code])
        rest = [c for part in parts if part != YPOGEGRAMMENI for c in folded.get(part, [part])]
        return [*data.compose(rest), YPOGEGRAMMENI]

    def bare(codes: list[int]) -> list[int]:
        parts = data.decompose(codes)
        below = [c for c in parts if c == YPOGEGRAMMENI]
        return [*data.compose([c for c in parts if not data.ccc[c]]), *below]

    def of(change: Callable[[int], list[int]]) -> Callable[[str], str]:
        def changed(character: str) -> str:
            code = ord(character)
            return character if ignorable[code] else "".join(map(chr, change(code)))

        return changed

    return {
        "nfkc": lambda character: "".join(map(chr, nfkc(ord(character)))),
        "fold": of(fold),
        "nfkc_bare": of(lambda code: [c for c in bare(nfkc(code)) if c != YPOGEGRAMMENI]),
        "fold_bare": of(lambda code: bare(fold(code))),
        "decomposed": lambda character: (
            character
            if ord(character) in HANGUL
            else "".join(map(chr, data.decompose([ord(character)])))
        ),
    }


def main() -> None:
    data = Database(Path(sys.argv[1]))
    pool: list[int] = []
    arrays = {name: mapping(change, pool) for name, change in mappings(data).items()}
    arrays["properties"] = properties(data)
    tables: dict[str, np.ndarray] = {"version": np.array(data.version)}
    for name, values in arrays.items():
        tables[f"{name}_index"], tables[name] = two_stage(values)
    tables["pool"] = np.array(pool, np.int32)
    pairs = sorted((first << 21 | second, made) for (first, second), made in data.pairs.items())
    tables["composed"] = np.array(pairs, np.int64)
    np.savez_compressed(OUT, allow_pickle=False, **tables)
    print(f"{OUT.name}: Unicode {data.version}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
