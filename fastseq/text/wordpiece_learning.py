"""Learning a WordPiece vocabulary from texts, by the `tokenizers` library (an optional package)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

import numpy as np

from fastseq.errors import DataError, MissingExtraError
from fastseq.text.wordpiece import BEGIN, END, MASK, PADDING, UNKNOWN, WordPiece
from fastseq.types import Int64

SPECIALS = (PADDING, UNKNOWN, BEGIN, END, MASK)  # the first ids, as in Google's vocabularies

_ALPHABET = 1000  # characters at most; rarer ones are unknown
_SHARE = 4  # of the vocabulary at most that characters take
_LEAST = 2  # occurrences of a pair of pieces that is joined


def learn_wordpiece(
    read: Callable[[], Iterable[list[str]]], size: int, lowercase: bool = True
) -> WordPiece:
    """A tokenizer whose vocabulary of at most `size` pieces is learned from texts.

    Pairs of neighbouring pieces that are frequent within words are joined, beginning with the most
    frequent characters, a quarter of the vocabulary and 1,000 at most. The same texts give the same
    vocabulary.

    read : returns the texts, in lists, each time it is called
    size : 10 or more
    lowercase : as of WordPiece

    Raises MissingExtraError without the `tokenizers` library, DataError for texts without a word.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    except ImportError:
        raise MissingExtraError(
            "learning a vocabulary needs the package tokenizers: pip install "
            "'fastseq[tokenizers]', or give a tokenizer"
        ) from None
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    normalised = (normalizer.normalize_str("\n".join(part)) for part in read())
    first, inner = _characters(normalised, min(_ALPHABET, size // _SHARE))
    fixed = [*SPECIALS, *first, *(f"##{char}" for char in inner)]
    if not first:
        raise DataError("no word to learn a vocabulary from")
    trained = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # pieces of one character as special tokens: the library numbers others in the order of a hash
    # table, on which the result would depend
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=_LEAST, special_tokens=fixed, initial_alphabet=first,
        limit_alphabet=len(first), show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(read(), trainer)
    vocabulary = trained.get_vocab(with_added_tokens=False)
    return WordPiece.from_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__), lowercase)


def _characters(texts: Iterable[str], most: int) -> tuple[list[str], list[str]]:
    """The `most` frequent characters, and those of them that occur within words, in the order of
    their code points, of texts that are normalised."""
    all_: Int64 = np.zeros(0x110000, np.int64)
    inner = np.zeros_like(all_)
    in_words = np.zeros(0x110000, np.bool_)  # neither space nor punctuation
    known = np.zeros(0x110000, np.bool_)
    for text in texts:
        codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
        all_ += np.bincount(codes, minlength=0x110000)
        for code in np.flatnonzero((all_ > 0) & ~known).tolist():
            known[code], in_words[code] = True, not (_is_space(code) or _is_punctuation(code))
        is_in = in_words[codes]
        inner += np.bincount(codes[1:][is_in[1:] & is_in[:-1]], minlength=0x110000)
    found = [code for code in np.flatnonzero(all_).tolist() if not _is_space(code)]
    found = sorted(sorted(found, key=lambda code: -all_[code])[:most])
    return list(map(chr, found)), [chr(code) for code in found if inner[code]]


def _is_space(code: int) -> bool:
    return chr(code).isspace()


def _is_punctuation(code: int) -> bool:
    """As BERT's pre-tokenizer has it."""
    char = chr(code)
    return (code < 128 and not char.isalnum()) or unicodedata.category(char).startswith("P")
