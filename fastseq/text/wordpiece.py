"""BERT's tokenizer: texts to the ids of word pieces, as Hugging Face's `tokenizers` gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import SettingsError, quoted
from fastseq.kernels.text import wordpiece as kernels
from fastseq.settings import whole
from fastseq.text.lexicon import valid_texts
from fastseq.threads import Team
from fastseq.types import Int32, Int64, Texts, Tokens, UInt8, offsets_of

UNKNOWN, BEGIN, END, PADDING, MASK = "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"

_SLICE_BYTES = 1 << 20  # of text that a thread works on
_MOST_NODES = 1 << 24  # a node is 24 bits of an edge
_SPREAD = 0x9E3779B1  # odd, so that no two nodes fall on one
_NO_SPANS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is found in a text as it is written, before anything else.

    single_word     only where no word character is before or after it
    lstrip, rstrip  its span has the white space before or after it
    """

    content: str
    id: int
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True, slots=True)
class Specials:
    """The texts of the special tokens; they need not be in the vocabulary."""

    begin: str = BEGIN
    end: str = END
    padding: str = PADDING
    mask: str = MASK


@dataclass(frozen=True, slots=True, eq=False)
class PieceSpans:
    """The pieces of D texts with their spans.

    texts   the texts that were split: valid UTF-8
    tokens  the ids
    starts  int64[n]  where in its text each begins, in bytes or code points
    stops   int64[n]  and past its last
    """

    texts: Texts
    tokens: Tokens
    starts: Int64
    stops: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """The inputs of D texts, or pairs of texts, with special tokens.

    ids        int32[n]
    types      int32[n]      0 for [CLS] a [SEP], 1 for b [SEP]
    offsets    int64[D + 1]  input i has ids[offsets[i]:offsets[i + 1]]
    truncated  bool[D]       whether ids were left out
    """

    ids: Int32
    types: Int32
    offsets: Int64
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def truncated_count(self) -> int:
        """How many inputs had ids left out."""
        return int(self.truncated.sum())


class WordPiece:
    """A WordPiece tokenizer with BERT's normalisation and words.

    Parameters
    ----------
    vocabulary : the id of each word; a piece within a word begins with `prefix`
    lowercase : lower-case each character
    strip_accents : decompose (NFD) and remove nonspacing marks; None: as `lowercase`
    split_cjk : make each CJK ideograph a word
    clean_text : remove control characters
    unknown : the token of a word that has no pieces
    prefix : of the pieces that do not begin a word
    longest : characters of a word; a longer one is unknown
    added : the tokens that are found in a text as they are written
    specials : the tokens that `encode_pairs` puts around texts, and those of padding and masks

    Raises SettingsError where `unknown` is not in the vocabulary, an id is not from 0 to 2³¹ - 2,
    or a token is not valid Unicode, or an added one empty.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], *, lowercase: bool = True,
        strip_accents: bool | None = None, split_cjk: bool = True, clean_text: bool = True,
        unknown: str = UNKNOWN, prefix: str = "##", longest: int = 100,
        added: Sequence[AddedToken] = (), specials: Specials | None = None,
    ) -> None:  # fmt: skip
        if unknown not in vocabulary:
            raise SettingsError(f"the vocabulary has no {quoted(unknown)}, the unknown token")
        self.vocabulary = dict(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.split_cjk = split_cjk
        self.clean_text = clean_text
        self.unknown = unknown
        self.prefix = prefix
        self.longest = whole("longest", longest, 1)
        self.added = tuple(added)
        self.specials = specials or Specials()
        ids = self.ids
        for id in (min(ids), max(ids)):
            whole("an id of the vocabulary", id, 0)
        self.size = max(ids) + 1
        self._arrays = self._tables()

    @classmethod
    def from_vocabulary(
        cls, words: Iterable[str], lowercase: bool = True, strip_accents: bool | None = None,
        split_cjk: bool = True, unknown: str = UNKNOWN, prefix: str = "##", longest: int = 100,
    ) -> WordPiece:  # fmt: skip
        """A tokenizer of words in the order of their ids, as in a vocab.txt; of a word that occurs
        twice, the last id. BERT's special tokens are added tokens where the vocabulary has them.

        Raises as the class.
        """
        vocabulary = {word: id for id, word in enumerate(words)}
        names = dict.fromkeys((unknown, BEGIN, END, PADDING, MASK))
        added = [AddedToken(name, vocabulary[name]) for name in names if name in vocabulary]
        return cls(
            vocabulary, lowercase=lowercase, strip_accents=strip_accents, split_cjk=split_cjk,
            unknown=unknown, prefix=prefix, longest=longest, added=added,
        )  # fmt: skip

    def __reduce__(self) -> tuple[Callable[..., WordPiece], tuple[Any, ...]]:
        return _restored, (self.vocabulary, self.options)

    @property
    def options(self) -> dict[str, Any]:
        """The parameters but for the vocabulary."""
        names = (
            "lowercase", "strip_accents", "split_cjk", "clean_text", "unknown", "prefix", "longest",
            "added", "specials",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        """One more than the largest id."""
        return self.size

    @property
    def ids(self) -> list[int]:
        """The ids that tokens have."""
        return [*self.vocabulary.values(), *(token.id for token in self.added)]

    def id_of(self, token: str) -> int | None:
        """The id of a token, an added one or one of the vocabulary."""
        found = next((added.id for added in self.added if added.content == token), None)
        return self.vocabulary.get(token) if found is None else found

    def words(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids; the unknown token for an id that no token has."""
        names = {id: word for word, id in self.vocabulary.items()}
        names |= {token.id: token.content for token in self.added}
        return [names.get(int(id), self.unknown) for id in ids]

    # ---- encoding

    def encode(
        self, texts: Texts | Sequence[str], team: Team | None = None, on_invalid: str = "error"
    ) -> Tokens:
        """The ids of the pieces of each text, without special tokens.

        team : the threads; None: this one
        on_invalid : what to do with a text that is not UTF-8: "error", or "replace" (its invalid
            bytes are removed, as U+FFFD is by `clean_text`)

        Raises InvalidTextError; SettingsError where `on_invalid` is another.
        """
        return self._encode(valid_strings(texts, on_invalid), team, False)[0]

    def encode_spans(
        self, texts: Texts | Sequence[str], team: Team | None = None, on_invalid: str = "error",
        code_points: bool = False,
    ) -> PieceSpans:  # fmt: skip
        """`encode`, with the part of the original text that each piece comes from.

        code_points : whether spans are in code points, as Python's strings are, or in bytes. With
            "replace" they are those of the text with U+FFFD.
        """
        texts = valid_strings(texts, on_invalid)
        tokens, starts, stops = self._encode(texts, team, True)
        base = np.repeat(texts.offsets[:-1], np.diff(tokens.offsets))
        if code_points:
            is_first = texts.data & 0xC0 != 0x80
            places = offsets_of(is_first)  # the code points before each byte
            return PieceSpans(
                texts, tokens, places[starts] - places[base], places[stops] - places[base]
            )
        return PieceSpans(texts, tokens, starts - base, stops - base)

    def _encode(self, texts: Texts, team: Team | None, spans: bool) -> tuple[Tokens, Int64, Int64]:
        offsets = texts.offsets
        limits = np.arange(offsets[0], offsets[-1], _SLICE_BYTES)[1:]
        cuts = np.unique([0, *np.searchsorted(offsets, limits).tolist(), len(texts)])
        slices = [
            Texts(texts.data, offsets[first : last + 1])
            for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        ]
        found: list[tuple[Int32, Int64, Int64, Int64]] = [None] * len(slices)  # type: ignore[list-item]

        def work(part: int) -> None:
            found[part] = self._encode_slice(slices[part], spans)

        (team or Team(1)).run(work, len(slices))
        ids = np.concatenate([part[0] for part in found] or [np.empty(0, np.int32)])
        starts = np.concatenate([_NO_SPANS, *(part[1] for part in found)])
        stops = np.concatenate([_NO_SPANS, *(part[2] for part in found)])
        counts = np.concatenate([_NO_SPANS, *(np.diff(part[3]) for part in found)])
        return Tokens(ids, offsets_of(counts)), starts, stops

    def _encode_slice(self, texts: Texts, spans: bool) -> tuple[Int32, Int64, Int64, Int64]:
        """(ids, starts, stops, ends) of some texts. There are no more pieces than bytes, since no
        character becomes more characters than it has bytes."""
        size, ends = texts.nbytes, np.empty(len(texts) + 1, np.int64)
        room = min(self.longest, int(np.diff(texts.offsets).max(initial=0))) + 1
        ids = np.empty(size, np.int32)
        starts, stops, code_starts, code_stops = (
            np.empty(n, np.int64) for n in (*[size if spans else 0] * 2, room, room)
        )
        kernels.encode_words(
            ids, starts, stops, ends, np.empty(room, np.uint32), np.empty(room, np.uint16),
            code_starts, code_stops, np.empty(4 * room, np.uint8),
            np.empty(4 * room, np.int32), texts.data, texts.offsets, *self._arrays,
        )  # fmt: skip
        n = ends[-1]
        return ids[:n].copy(), starts[:n].copy(), stops[:n].copy(), ends

    # ---- inputs

    def encode_pairs(
        self, first: Texts | Sequence[str], second: Texts | Sequence[str] | None = None,
        length: int | None = None, team: Team | None = None, on_invalid: str = "error",
    ) -> Sequences:  # fmt: skip
        """[CLS] a [SEP] of each text, or [CLS] a [SEP] b [SEP] of each pair of texts.

        length : tokens of an input at most, the special ones among them; None: as many as there
            are. Tokens are taken from the end of the longer text first, then from both.

        Raises as `encode` and `join`.
        """
        other = None if second is None else self.encode(second, team, on_invalid)
        return self.join(self.encode(first, team, on_invalid), other, length)

    def join(
        self, first: Tokens, second: Tokens | None = None, length: int | None = None
    ) -> Sequences:
        """`encode_pairs` of texts that are encoded.

        Raises SettingsError where the vocabulary has no [CLS] or [SEP], there are more or fewer
        texts in `second`, or `length` leaves no room for any token.
        """
        begin, end = self._special(self.specials.begin), self._special(self.specials.end)
        return joined_sequences(first, second, length, begin, end)

    def _special(self, token: str) -> int:
        found = self.id_of(token)
        if found is None:
            raise SettingsError(f"the vocabulary has no {quoted(token)}")
        return found

    # ---- tables

    def _tables(self) -> tuple[Any, ...]:
        """What `encode_words` takes after the texts."""
        tables = _tables_of(self.lowercase, self.strip_accents)
        bytes_ = np.arange(256)
        lower = bytes_.astype(np.uint8)
        if self.lowercase:
            lower[ord("A") : ord("Z") + 1] += 32
        properties = tables[1][int(tables[0][0]) * 128 :][:128]
        kinds: UInt8 = np.full(256, kernels.OTHER, np.uint8)
        kinds[:128] = np.select(
            [
                (properties & kernels.REMOVED != 0) & self.clean_text,
                properties & kernels.SPACE != 0,
                properties & kernels.PUNCTUATION != 0,
            ],
            [kernels.OTHER, kernels.BLANK, kernels.MARK],
            kernels.LETTER,
        )
        most = 4 * self.longest  # bytes of a word that has pieces
        (prefix,) = _all_encoded([self.prefix])
        words = dict(zip(_all_encoded(self.vocabulary), self.vocabulary.values(), strict=True))
        words = {word: id for word, id in words.items() if 0 < len(word) <= most + len(prefix)}
        contents = _all_encoded([token.content for token in self.added])
        if not all(contents):
            raise SettingsError("an added token is empty")
        values = [*words.values(), -1, *range(len(contents))]
        trie = _Trie([*words, prefix, *contents], values, len(contents))
        firsts = np.zeros(256, np.uint8)
        firsts[[content[0] for content in contents]] = 1
        flags = [
            token.single_word * kernels.SINGLE_WORD
            | token.lstrip * kernels.LEFT_SPACE
            | token.rstrip * kernels.RIGHT_SPACE
            for token in self.added
        ]
        return (
            kinds, trie.edges, trie.values, lower, firsts,
            np.array([token.id for token in self.added], np.int32), np.array(flags, np.uint8),
            *tables, trie.roots[1], trie.nodes[len(words)], self.vocabulary[self.unknown],
            self.longest, int(self.clean_text), int(self.split_cjk), int(self.strip_accents),
        )  # fmt: skip


def joined_sequences(
    first: Tokens, second: Tokens | None, length: int | None, begin: int, end: int
) -> Sequences:
    """Texts, or pairs of them, between the special tokens `begin` and `end`; raises as
    `WordPiece.join`."""
    extra = 2 if second is None else 3
    if second is not None and len(second) != len(first):
        raise SettingsError(f"{len(first)} first and {len(second)} second texts of pairs")
    limit = (1 << 62) if length is None else whole("length", length, extra + 1)
    others = Tokens(np.empty(0, np.int32), np.empty(0, np.int64)) if second is None else second
    size = len(first.values) + len(others.values) + extra * len(first)
    ids, types = np.empty((2, size), np.int32)
    offsets, truncated = np.empty(len(first) + 1, np.int64), np.empty(len(first), np.uint8)
    kernels.join_sequences(
        ids, types, offsets, truncated, first.values, first.offsets, others.values,
        others.offsets, limit, begin, end,
    )  # fmt: skip
    n = int(offsets[-1])
    if n < size // 2:  # most was truncated
        ids, types = ids[:n].copy(), types[:n].copy()
    return Sequences(ids[:n], types[:n], offsets, truncated.astype(np.bool_))


def _restored(vocabulary: dict[str, int], options: dict[str, Any]) -> WordPiece:
    return WordPiece(vocabulary, **options)


def valid_strings(texts: Texts | Sequence[str], on_invalid: str) -> Texts:
    """Texts that are valid UTF-8; raises as `WordPiece.encode`."""
    if on_invalid not in ("error", "replace"):
        raise SettingsError(f'on_invalid must be "error" or "replace", not {quoted(on_invalid)}')
    return valid_texts(texts if isinstance(texts, Texts) else Texts.from_strings(texts), on_invalid)


def _all_encoded(tokens: Iterable[str]) -> list[bytes]:
    try:
        return [token.encode() for token in tokens]
    except UnicodeEncodeError as error:
        raise SettingsError(f"the token {quoted(error.object)} is not valid Unicode") from None


class _Trie:
    """A trie as the kernels have it, of strings with values, the last `others` from a second root.

    roots  the two
    nodes  where each string ends
    """

    def __init__(self, strings: list[bytes], values: list[int], others: int) -> None:
        lengths = np.array([len(string) for string in strings])
        starts = offsets_of(lengths)[:-1]
        data = np.frombuffer(b"".join(strings), np.uint8)
        numbers = np.zeros(len(strings), np.int64)  # of nodes: 0 and 1 are the roots
        numbers[len(strings) - others :] = 1
        active = np.arange(len(strings))
        keys, count = [np.empty(0, np.int64)], 2
        for depth in range(int(lengths.max(initial=0))):
            active = active[lengths[active] > depth]
            key = numbers[active] << 8 | data[starts[active] + depth]
            distinct, inverse = np.unique(key, return_inverse=True)
            keys.append(distinct)
            numbers[active] = count + inverse
            count += len(distinct)
        capacity = 1 << (2 * count).bit_length()
        if capacity > _MOST_NODES:
            raise SettingsError("the words of the vocabulary are too long in all")

        def spread(number: Any) -> Any:  # nodes over the slots; the first remains 0
            return number * _SPREAD & capacity - 1

        key = np.concatenate(keys)
        is_end = np.zeros(count, np.bool_)
        ends = np.array(values) >= 0
        is_end[numbers[ends]] = True
        to = spread(np.arange(2, count)) | is_end[2:] * kernels.ENDS
        entries = spread(key >> 8) << 40 | (key & 255) << 32 | to
        self.edges = np.zeros(capacity, np.uint64)
        kernels.add_edges(self.edges, entries.astype(np.uint64))
        self.values = np.full(capacity, -1, np.int32)
        self.values[spread(numbers[ends])] = np.array(values)[ends]
        self.nodes: list[int] = spread(numbers).tolist()
        self.roots = int(spread(0)), int(spread(1))


@cache
def _stored() -> dict[str, npt.NDArray[Any]]:
    with np.load(Path(__file__).with_name("wordpiece.npz"), allow_pickle=False) as stored:
        return {name: np.ascontiguousarray(stored[name]) for name in stored.files}


def _tables_of(lowercase: bool, strip_accents: bool) -> tuple[npt.NDArray[Any], ...]:
    """The arrays of the kernels' Characters with the mapping of these steps."""
    stored = _stored()
    name = "_".join(["strip"] * strip_accents + ["lower"] * lowercase)
    mapping = np.zeros(0x110000 >> 7, np.uint16), np.zeros(128, np.int32)
    if name:
        mapping = stored[f"{name}_index"], stored[name]
    return stored["properties_index"], stored["properties"], *mapping, stored["pool"]
