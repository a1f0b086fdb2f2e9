"""Write fastseq/text/unicode.npz: the Unicode tables that the analyzers read.

Run it with the newest Python at hand (and NumPy): the tables then know that Python's Unicode
version, and every Python analyses text by them alike.

    python tools/make_unicode_tables.py

Per code point there is a byte of flags and three mappings, each a two-stage table: entry c of a
table is values[index[c >> 7] << 7 | c & 127].

flags   bit 0 word: str.isalnum() or "_"; bit 1 white space: str.isspace();
        bit 2 cased and bit 3 case-ignorable, as str.lower() sees them when it looks for a final
        sigma; bits 4 and 5 script: 1 Han and kana, 2 Hangul (word characters only);
        bit 6 assigned: the version knows the code point.
lower, fold, lower_fold
        str.lower(); accent folding; accent folding of the lower-cased character, lower-cased
        again. A value below MULTIPLE is added to the code point (it may be negative), one from
        MULTIPLE on is MULTIPLE + (start << 5 | length), the mapping being
        pool[start:start + length].

Accent folding: NFKD, characters of a non-zero combining class dropped, what is left composed
(NFC), so that Hangul syllables survive.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

CODE_POINTS = 0x110000
SHIFT = 7
MULTIPLE = 1 << 24
OUT = Path(__file__).resolve().parent.parent / "fastseq" / "text" / "unicode.npz"

HAN_AND_KANA = (
    "CJK UNIFIED IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
    "HIRAGANA",
    "HENTAIGANA",
    "KATAKANA",  # and KATAKANA-HIRAGANA PROLONGED SOUND MARK
    "HALFWIDTH KATAKANA",
    "VERTICAL KANA REPEAT",
    "MASU MARK",
    "IDEOGRAPHIC ITERATION MARK",
    "VERTICAL IDEOGRAPHIC ITERATION MARK",
    "IDEOGRAPHIC CLOSING MARK",
    "IDEOGRAPHIC NUMBER ZERO",
    "HANGZHOU NUMERAL",
)
HANGUL = ("HANGUL", "HALFWIDTH HANGUL")


def flags_of(character: str) -> int:
    """The byte of flags of one character."""
    word = character.isalnum() or character == "_"
    # str.lower() turns Σ into ς after a cased character, case-ignorable ones between skipped, and
    # before none; so whether a lone character makes a sigma final tells what lower() takes it for
    cased = (character + "Σ").lower().endswith("ς")
    ignorable = not cased and ("a" + character + "Σ").lower().endswith("ς")
    name = unicodedata.name(character, "")
    script = 1 if name.startswith(HAN_AND_KANA) else 2 if name.startswith(HANGUL) else 0
    return (
        word
        | character.isspace() << 1
        | cased << 2
        | ignorable << 3
        | (script if word else 0) << 4
        | (unicodedata.category(character) != "Cn") << 6
    )


def fold(text: str) -> str:
    """The text without accents."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare)


def fold_lowered(character: str) -> str:
    """The character lower-cased, without accents, and lower-cased again."""
    return "".join(c.lower() for c in fold(character.lower()))


def mapping(change: Callable[[str], str], pool: list[int]) -> np.ndarray:
    """int32[CODE_POINTS]: the coded mapping of every code point, its strings added to the pool."""
    out = np.zeros(CODE_POINTS, np.int32)
    known: dict[str, int] = {}
    for code in range(CODE_POINTS):
        if 0xD800 <= code < 0xE000:
            continue
        to = change(chr(code))
        if len(to) == 1:
            out[code] = ord(to) - code
            continue
        if to not in known:
            if len(to) >= 32:
                raise ValueError(f"U+{code:04X} maps to {len(to)} characters: more than 5 bits")
            known[to] = MULTIPLE + (len(pool) << 5 | len(to))
            pool.extend(map(ord, to))
        out[code] = known[to]
    return out


def two_stage(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index uint16[CODE_POINTS >> SHIFT], the distinct blocks one after the other)."""
    blocks, index = np.unique(values.reshape(-1, 1 << SHIFT), axis=0, return_inverse=True)
    return index.reshape(-1).astype(np.uint16), blocks.reshape(-1)


def main() -> None:
    pool: list[int] = []
    arrays = {
        "flags": np.array(
            [0 if 0xD800 <= c < 0xE000 else flags_of(chr(c)) for c in range(CODE_POINTS)], np.uint8
        ),
        "lower": mapping(str.lower, pool),
        "fold": mapping(fold, pool),
        "lower_fold": mapping(fold_lowered, pool),
    }
    tables: dict[str, np.ndarray] = {"version": np.array(unicodedata.unidata_version)}
    for name, values in arrays.items():
        tables[f"{name}_index"], tables[name] = two_stage(values)
    tables["pool"] = np.array(pool, np.int32)
    np.savez_compressed(OUT, allow_pickle=False, **tables)
    print(f"{OUT.name}: Unicode {unicodedata.unidata_version}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
