"""Compare BERT's tokenizer with Hugging Face's `tokenizers`.

    python -m tests.text.wordpiece_oracle FOLDER [--texts 1000000] [--real TEXTS.parquet]

FOLDER has a tokenizer.json or a vocab.txt. Random texts under all parameters, real ones and
all code points one by one, with ids and spans; then the speed of both on one thread, on real texts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from typing import Any

import numpy as np
from tokenizers import AddedToken as TheirToken
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece as TheirPieces

from fastseq.kernels.text.unicode import MULTIPLE
from fastseq.kernels.text.wordpiece import CLASS_SHIFT
from fastseq.text.tokenizer_files import read_tokenizer
from fastseq.text.wordpiece import AddedToken, WordPiece, _tables_of
from fastseq.types import Texts

SURROGATES = range(0xD800, 0xE000)
# marks that are not nonspacing, or were not when the tables of `tokenizers` were made
_MARKS = "\u0301\u0327\u0334\u0345\u093c\u094d\u0900\u20dd\u302e\u302f\u1bf2\U0001d165\U0001d16d"
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFG 0123456789",
    " \t\n\r\x0b\x0c\x01\x7f\x85\xa0\u2003\u2028\u3000\u200b\u200d\ufeff\ufffd\ue000\0",
    ".,;:!?'\"-_()[]#@$%^&*+=<>`~|\\/\u2013\u201c\u3002\xb7\u037e\u1fef\u2100",
    "éÉñöüßçÅåøŒœİıŁłǅǆΣσςΌάйЙёЁẞỆẵ\u212a\u212b",
    _MARKS + "aeo\U0001e900\U0001e944\u08d4\U0001d15e\U0001d160\ufb2c",
    "한국어가각힣\u1100\u1161\u11a8漢字\uf900\u4e00\u3400\U00020000\U0002b740\U0002b820かなカナｱ",
    "ـعربيآأؤעִבְרִיתहिन्दीไทย😀👨‍👩‍👧🇩🇪½ﬁ①",
)
_WRITTEN = ("[MASK]", "[SEP]", "[CLS]", "[UNK]", "[mask]", "[MASK", "<new>", "[PAD][PAD]", "wörd")

OPTIONS = [
    {
        "lowercase": bits & 1 > 0, "strip_accents": bits & 2 > 0, "split_cjk": bits & 4 > 0,
        "clean_text": bits & 8 > 0,
    }
    for bits in (15, 0, 3, 15, 12, 13, 14, 11, 7)
]  # fmt: skip


def random_texts(rng: np.random.Generator, size: int, words: Sequence[str]) -> Iterator[str]:
    """Texts of words, characters of several scripts, any code points, and special tokens."""
    for _ in range(size):
        parts: list[str] = []
        for kind in rng.integers(0, 12, int(rng.integers(1, 12))).tolist():
            if kind < 8:
                alphabet = _ALPHABETS[kind]
                chosen = rng.integers(0, len(alphabet), int(rng.integers(1, 10)))
                parts += [alphabet[i] for i in chosen.tolist()]
            elif kind == 8:
                codes = rng.integers(1, 0x110000 if rng.random() < 0.3 else 0x3000, 3).tolist()
                parts += [chr(code) for code in codes if code not in SURROGATES]
            elif kind == 9:
                parts.append(_WRITTEN[int(rng.integers(len(_WRITTEN)))])
            elif kind == 10:
                parts.append("x" * int(rng.integers(95, 106)))
            else:
                parts += [words[int(i)].removeprefix("##") for i in rng.integers(0, len(words), 3)]
            parts += [" "] * int(rng.integers(0, 2))
        yield "".join(parts)


def theirs(ours: WordPiece) -> Tokenizer:
    """The tokenizer of the `tokenizers` library with the parameters of ours."""
    tokenizer = Tokenizer(
        TheirPieces(
            ours.vocabulary,
            unk_token=ours.unknown,
            max_input_chars_per_word=ours.longest,
            continuing_subword_prefix=ours.prefix,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        ours.clean_text, ours.split_cjk, ours.strip_accents, ours.lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_tokens([
        TheirToken(
            token.content, single_word=token.single_word, lstrip=token.lstrip, rstrip=token.rstrip,
            normalized=False,
        )
        for token in ours.added
    ])  # fmt: skip
    return tokenizer


@cache
def kept_marks() -> frozenset[str]:
    """The characters with a mark that NFD may put elsewhere and that is not removed. Theirs has
    then the spans of what was at the place of a character before; ours those of the character."""
    index, properties, map_index, mapped, pool = _tables_of(False, True)

    def parts(code: int) -> list[int]:
        change = int(mapped[int(map_index[code >> 7]) << 7 | code & 127])
        start, length = (change - MULTIPLE) >> 5, change & 31
        return [code + change] if change < MULTIPLE else pool[start : start + length].tolist()

    def is_mark(code: int) -> bool:
        return bool(properties[int(index[code >> 7]) << 7 | code & 127] >> CLASS_SHIFT)

    changed = [code for code in range(0x20000) if any(map(is_mark, parts(code)))]
    return frozenset(map(chr, changed))


def first_difference(ours: WordPiece, theirs: Tokenizer, texts: Sequence[str]) -> str | None:
    """A description of the first text with other ids or spans; None where there is none."""
    found = ours.encode_spans(texts, code_points=True)
    for i, encoding in enumerate(theirs.encode_batch(texts, add_special_tokens=False)):
        row = slice(found.tokens.offsets[i], found.tokens.offsets[i + 1])
        ids = found.tokens.values[row].tolist()
        spans = list(zip(found.starts[row].tolist(), found.stops[row].tolist(), strict=True))
        equal_spans = spans == encoding.offsets or (
            ours.strip_accents and not kept_marks().isdisjoint(texts[i])
        )
        if ids != encoding.ids or not equal_spans:
            return (
                f"{texts[i]!r}:\n{ours.words(ids)} {spans}\n{encoding.tokens} {encoding.offsets}\n"
                f"{ours.options}"
            )
    return None


def code_point_vocabulary() -> list[str]:
    """[UNK], and all characters that a mapping makes, and those of the random texts, as words and
    as pieces."""
    codes = set(map(ord, "".join(_ALPHABETS))) | set(map(ord, kept_marks()))
    codes |= set(range(0x20, 0x250))
    for options in ((True, False), (False, True), (True, True)):
        *_, index, mapped, pool = _tables_of(*options)
        every = np.arange(0x110000)
        change = mapped[index[every >> 7].astype(np.int64) << 7 | every & 127]
        single = (change != 0) & (change < MULTIPLE)
        codes |= set((every + change)[single].tolist()) | set(pool.tolist())
    letters = [chr(code) for code in sorted(codes)]
    return ["[UNK]", *letters, *(f"##{letter}" for letter in letters)]


def added_tokens(vocabulary: dict[str, int]) -> list[AddedToken]:
    """Added tokens with all parameters and the ids that theirs have: those of the vocabulary, or
    the next ones. Some are the beginning of others."""
    contents = ("[MASK]", "[MASK", "new", "<new>", "wörd", "[PAD]", "[SEP]", "ab", "漢字", "\u0301")
    ids = count(len(vocabulary))
    return [
        AddedToken(
            content, vocabulary[content] if content in vocabulary else next(ids), i & 1 > 0,
            i & 2 > 0, i & 4 > 0,
        )
        for i, content in enumerate(contents)
    ]  # fmt: skip


def code_point_texts(codes: Sequence[int]) -> list[str]:
    """Texts with each code point alone, within a word, and among marks; some in a text."""
    texts = [
        f"{c} a{c}b {c}\u0301\u302e {c}\u302e{c}"
        for c in (chr(code) for code in codes if code not in SURROGATES)
    ]
    return [" | ".join(texts[i : i + 16]) for i in range(0, len(texts), 16)]


def _check(what: str, ours: WordPiece, texts: Sequence[str]) -> None:
    reference = theirs(ours)
    for start in range(0, len(texts), 20_000):
        different = first_difference(ours, reference, texts[start : start + 20_000])
        if different:
            raise SystemExit(f"{what}: {different}")
    print(f"{what}: {len(texts)} texts, equal ids and spans", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--real")
    chosen = parser.parse_args()
    ours = read_tokenizer(chosen.folder)
    words = list(ours.vocabulary)
    real: list[str] = []
    if chosen.real:
        import pyarrow.parquet as pq

        real = pq.read_table(chosen.real, columns=["text"])["text"].to_pylist()[: chosen.texts // 2]
        _check("real", ours, real)
    rng = np.random.default_rng(1)
    letters = {word: id for id, word in enumerate(code_point_vocabulary())}
    share = (chosen.texts - len(real)) // (2 * len(OPTIONS)) + 1
    for option in OPTIONS:
        texts = list(random_texts(rng, share, words))
        _check(f"random, {option}", WordPiece(ours.vocabulary, **(ours.options | option)), texts)
        texts = list(random_texts(rng, share, words))
        one = WordPiece(letters, added=added_tokens(letters), **option)
        _check(f"letters, {option}", one, texts)
    for option in OPTIONS[:3]:
        texts = code_point_texts(range(0x110000))
        _check(f"code points, {option}", WordPiece(letters, **option), texts)
    if real:
        _compare_speed(ours, real[:50_000])


def _compare_speed(ours: WordPiece, real: Sequence[str]) -> None:
    reference, texts = theirs(ours), Texts.from_strings(real)
    ours.encode(texts)
    seconds: dict[str, Any] = {}
    for _ in range(3):
        start = time.process_time()
        tokens = len(ours.encode(texts).values)
        seconds["fastseq"] = min(seconds.get("fastseq", 1e9), time.process_time() - start)
        start = time.process_time()
        reference.encode_batch_fast(real, add_special_tokens=False)
        seconds["tokenizers"] = min(seconds.get("tokenizers", 1e9), time.process_time() - start)
    for name, value in seconds.items():
        print(
            f"{name}: {tokens / value / 1e6:.2f} M tokens/s, {texts.nbytes / value / 1e6:.1f} MB/s"
        )


if __name__ == "__main__":
    main()
