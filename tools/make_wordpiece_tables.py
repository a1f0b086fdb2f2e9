"""Write fastseq/text/wordpiece.npz: the Unicode tables of BERT's tokenizer.

Run it with the version of Hugging Face's `tokenizers` that the tests compare with:

    python tools/make_wordpiece_tables.py

Its crates have Unicode tables of several versions, some with ranges of their own, so that no
edition of the Unicode database has the same: every code point is asked for, in about two minutes.

Every table is in two stages: entry c is values[index[c >> 7] << 7 | c & 127].

properties  uint16 of each code point
    bit 0      removed by clean_text
    bit 1      white space, at which the text is split
    bit 2      punctuation, a word of its own
    bit 3      CJK ideograph, around which spaces are put
    bit 4      word character: next to it a token with `single_word` is not found
    bits 8-15  the rank of its canonical combining class, 0 for a starter
lower, strip, strip_lower
    what lowercase makes of the code point; what strip_accents makes of it, that is NFD without
    nonspacing marks, Hangul syllables excepted; lowercase of the latter. An int32, as in
    tools/make_unicode_tables.py
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np
import tokenizers
from make_unicode_tables import CODE_POINTS, mapping, two_stage
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

OUT = Path(__file__).resolve().parent.parent / "fastseq" / "text" / "wordpiece.npz"

REMOVED, SPACE, PUNCTUATION, CJK, WORD = (1 << bit for bit in range(5))
CLASS_SHIFT = 8
SURROGATES = range(0xD800, 0xE000)
HANGUL = range(0xAC00, 0xD7A4)
CHARACTERS = [chr(code) for code in range(CODE_POINTS) if code not in SURROGATES]

_NFD = normalizers.NFD()


def normalizer(**chosen: bool) -> normalizers.BertNormalizer:
    """BERT's normaliser with some of its steps."""
    steps = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    return normalizers.BertNormalizer(**{step: chosen.get(step, False) for step in steps})


def flags() -> dict[str, int]:
    """The bits below the combining class of each character that has any."""
    clean = normalizer(clean_text=True)
    spaced = normalizer(handle_chinese_chars=True)
    words = pre_tokenizers.BertPreTokenizer()
    tokenizer = Tokenizer(WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("[Q]", single_word=True, normalized=False)])
    found = {}
    for c in CHARACTERS:
        bits = REMOVED if clean.normalize_str(c) == "" else 0
        pieces = [piece for piece, _ in words.pre_tokenize_str(f"a{c}a")]
        bits |= SPACE if pieces == ["a", "a"] else PUNCTUATION if len(pieces) == 3 else 0
        if clean.normalize_str(c) not in ("", " " if bits & SPACE else c):
            raise ValueError(f"clean_text changes U+{ord(c):04X}")
        bits |= CJK if spaced.normalize_str(c) == f" {c} " else 0
        if len(tokenizer.encode(f"{c}[Q]").ids) == 1:
            bits |= WORD
        if bits:
            found[c] = bits
    return found


def combining_ranks() -> dict[str, int]:
    """The rank, from 1, of the combining class of each character that has one and is its own NFD:
    marks of a higher class come after those of a lower one."""
    first, last = "\u0334", "\u0345"  # of the classes 1 and 240
    marks = [
        c for c in CHARACTERS
        if _NFD.normalize_str(c) == c
        and (_NFD.normalize_str(last + c)[0] == c or _NFD.normalize_str(c + first)[0] == first)
    ]  # fmt: skip
    ranks: list[list[str]] = []
    for c in marks:
        below = bisect_left(ranks, True, key=lambda rank: _NFD.normalize_str(c + rank[0])[0] == c)
        if below < len(ranks) and _NFD.normalize_str(ranks[below][0] + c)[0] != c:
            ranks[below].append(c)
        else:
            ranks.insert(below, [c])
    return {c: number for number, rank in enumerate(ranks, 1) for c in rank}


def main() -> None:
    properties = np.zeros(CODE_POINTS, np.uint16)
    for c, bits in flags().items():
        properties[ord(c)] = bits
    for c, rank in combining_ranks().items():
        properties[ord(c)] |= rank << CLASS_SHIFT
    steps = {
        "lower": normalizer(lowercase=True),
        "strip": normalizer(strip_accents=True),
        "strip_lower": normalizer(strip_accents=True, lowercase=True),
    }
    for code in HANGUL:
        tail = (code - HANGUL.start) % 28
        jamo = [0x1100 + (code - HANGUL.start) // 588, 0x1161 + (code - HANGUL.start) % 588 // 28]
        whole = "".join(map(chr, [*jamo, 0x11A7 + tail] if tail else jamo))
        if steps["strip_lower"].normalize_str(chr(code)) != whole:
            raise ValueError(f"U+{code:04X} is not decomposed as a Hangul syllable")
    pool: list[int] = []
    tables: dict[str, np.ndarray] = {"version": np.array(tokenizers.__version__)}
    arrays = {
        name: mapping(lambda c, s=step: c if ord(c) in HANGUL else s.normalize_str(c), pool)
        for name, step in steps.items()
    }
    for name, values in (arrays | {"properties": properties}).items():
        tables[f"{name}_index"], tables[name] = two_stage(values)
    tables["pool"] = np.array(pool, np.int32)
    np.savez_compressed(OUT, allow_pickle=False, **tables)
    print(f"{OUT.name}: tokenizers {tokenizers.__version__}, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
