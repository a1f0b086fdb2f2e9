"""Snippets: the passages of texts that match a query best, with the words that match.

    matcher = Matcher(Phrase("black cat"), analyzer)
    (snippet,) = snippets(Texts.from_strings(["A black cat sleeps."]), matcher)
    str(snippet)             # A black cat sleeps.
    snippet.html()           # A <mark>black cat</mark> sleeps.
    snippet.highlights       # ((2, 11),)

A passage begins where a sentence does, if the first word that matches is then still inside, else
some words before that. It is not cut inside of a word, where white space separates words, nor in a
character of several code points.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastseq.errors import DataError, quoted
from fastseq.index.collection import Collection
from fastseq.kernels.search.passages import best_passages
from fastseq.search.display import SNIPPET_LENGTH, is_inside_character, without_controls
from fastseq.search.highlighting import Matcher
from fastseq.settings import whole
from fastseq.types import Int32, Int64, Texts

_BATCH = 4 << 20  # bytes of text at a time
_FARTHEST = 32  # code points: where white space is farther away, the cut is between characters
_SENTENCE_END = re.compile(
    r"""[.!?…]["'”’»)\]]*\s+ | [。！？｡]["'”’」』）]*\s* | [।॥۔؟]\s+ | \n\s*""", re.VERBOSE
)
_LONGEST_END = 8  # code points of what ends a sentence, before the last white space
_SPACES = re.compile(r"\s+")
_ELLIPSIS = "…"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A passage of a text, and what in it is highlighted.

    text        as in the document
    highlights  (start, end) of each highlight, in code points of `text`; ascending and apart
    offset      where in the document the text begins, in code points
    column      the column of the document
    score       the weight of the words that match; 0 without any: this is then the beginning
    cut_before, cut_after  whether the document has more text before it, after it
    """

    text: str
    highlights: tuple[tuple[int, int], ...] = ()
    offset: int = 0
    column: str | None = None
    score: float = 0.0
    cut_before: bool = False
    cut_after: bool = False

    def __str__(self) -> str:
        """The text on one line, with an ellipsis where it is cut."""
        return self._shown(_on_one_line, "", "")

    def html(self) -> str:
        """The text escaped for HTML, highlights in `<mark>`, with an ellipsis where it is cut."""
        return self._shown(html.escape, "<mark>", "</mark>")

    def ansi(self) -> str:
        """The text on one line for a terminal, highlights in bold, with an ellipsis where it is
        cut."""
        return self._shown(_on_one_line, _BOLD, _PLAIN)

    def _shown(self, escape: Callable[[str], str], opening: str, closing: str) -> str:
        parts = [_ELLIPSIS] if self.cut_before else []
        at = 0
        for start, end in self.highlights:
            parts += [escape(self.text[at:start]), opening, escape(self.text[start:end]), closing]
            at = end
        parts.append(escape(self.text[at:]))
        return "".join([*parts, *([_ELLIPSIS] if self.cut_after else [])])


def _on_one_line(text: str) -> str:
    return without_controls(_SPACES.sub(" ", text))


def snippets(
    texts: Texts, matcher: Matcher, length: int = SNIPPET_LENGTH, column: str | None = None
) -> list[Snippet]:
    """The best passage of each text; the beginning of a text without a match.

    Parameters as of `passages`, which says what it raises.
    """
    return [best[0] for best in passages(texts, matcher, length, 1, column)]


def passages(
    texts: Texts, matcher: Matcher, length: int = SNIPPET_LENGTH, most: int = 1,
    column: str | None = None,
) -> list[list[Snippet]]:  # fmt: skip
    """The best passages of each text, in the order of the text and without overlap; the beginning
    of a text without a match.

    Parameters
    ----------
    length : code points of a passage, at most
    most : passages of a text, at most
    column : the name of the texts' column: clauses of the field of this name match in them, too

    Raises SettingsError for a length or `most` below 1; InvalidTextError for a text that is not
    UTF-8, unless the analyzer replaces.
    """
    length, most = whole("length", length, 1), whole("most", most, 1)
    found: list[list[Snippet]] = []
    for batch in _batches(texts):
        found += _Passages(batch, matcher, length, column).best(most)
    return found


def document_snippets(
    collection: Collection, rows: Int32 | Int64, matcher: Matcher, column: str | None = None,
    length: int = SNIPPET_LENGTH,
) -> list[Snippet]:  # fmt: skip
    """A snippet of each of some documents, from their stored text.

    rows : of documents
    column : a stored column of text; None: of each document the text column with the best passage,
        the first of equal ones, the longest where none matches

    Raises SettingsError for a length below 1; DataError for a column that is not stored or has no
    texts, FormatError for a damaged file.
    """
    from fastseq.store.nested import field_at, top_level
    from fastseq.store.texts import stored_texts

    whole("length", length, 1)
    columns = list(collection.folder.settings.get("text_columns", ()))
    stored = [name for name in columns if field_at(collection.schema, name) is not None]
    if column is not None and field_at(collection.schema, column) is None:
        names = ", ".join(collection.stored_columns) or "none"
        raise DataError(f"no stored column {quoted(column)}; stored are: {names}")
    wanted = stored if column is None else [column]
    if not wanted and collection.impacts is not None:
        raise DataError(
            "an index of impacts has no text, so it has no snippets but of a stored column"
        )
    if not wanted:
        raise DataError(
            f"the text ({', '.join(columns)}) is not stored in this index, so it has no snippets"
        )
    table = collection.take(np.asarray(rows, np.int64), top_level(collection.schema, wanted))
    found: list[Snippet] = []
    for part in stored_texts(table, wanted):
        each = [
            snippets(texts, matcher, length, name) for name, texts in zip(wanted, part, strict=True)
        ]
        lengths = [np.diff(texts.offsets).tolist() for texts in part]
        for document, several in enumerate(zip(*each, strict=True)):
            best = max(
                range(len(wanted)),
                key=lambda c: (several[c].score, 0 if several[c].score else lengths[c][document]),
            )
            found.append(replace(several[best], column=wanted[best]))
    return found


def _batches(texts: Texts) -> Iterator[Texts]:
    """The texts in parts of about _BATCH bytes, at least one text each."""
    start = 0
    while start < len(texts):
        stop = int(np.searchsorted(texts.offsets, texts.offsets[start] + _BATCH, "right")) - 1
        stop = min(max(stop, start + 1), len(texts))
        yield Texts(texts.data, texts.offsets[start : stop + 1])
        start = stop


class _Passages:
    """The passages of some texts. Places are in code points of a text."""

    def __init__(self, texts: Texts, matcher: Matcher, length: int, column: str | None) -> None:
        found = matcher.match(texts, column)
        self._length, self._column, self._clauses = length, column, matcher.clauses
        self._strings = found.texts.to_strings()
        self._occurrences, self._of_clauses = found.offsets, found.clauses
        self._weights = found.weights
        places = _CodePoints(found.texts)
        self._starts = places.of(found.offsets, found.starts)
        self._ends = places.of(found.offsets, found.ends)
        starts = places.of(found.mark_offsets, found.mark_starts)
        ends = places.of(found.mark_offsets, found.mark_ends)
        self._mark_offsets = found.mark_offsets.tolist()
        self._mark_starts, self._mark_ends = starts.tolist(), ends.tolist()

    def best(self, most: int) -> list[list[Snippet]]:
        """The best passages of each text, at most `most`."""
        count = len(self._strings)
        chosen: list[list[Snippet]] = [[] for _ in range(count)]
        used = np.zeros(len(self._starts), np.uint8)
        shares = np.ones(self._clauses)
        firsts, ends, scores = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count)
        for number in range(most):
            best_passages(
                firsts, ends, scores, shares, self._occurrences, self._starts, self._ends,
                self._of_clauses, self._weights, used, self._length,
            )  # fmt: skip
            left = range(count) if number == 0 else np.flatnonzero(firsts >= 0).tolist()
            if not left:
                break
            first_starts = np.where(firsts >= 0, self._starts[firsts], 0) if len(used) else firsts
            both = zip(first_starts.tolist(), ends.tolist(), scores.tolist(), strict=True)
            places = list(both)
            for text in left:
                start, end, score = places[text]
                if firsts[text] < 0:
                    start = end = len(self._strings[text]) - len(self._strings[text].lstrip())
                snippet = self._snippet(text, start, end, score, chosen[text])
                chosen[text].append(snippet)
                if most > 1:
                    own = slice(int(self._occurrences[text]), int(self._occurrences[text + 1]))
                    begin, stop = snippet.offset, snippet.offset + len(snippet.text)
                    used[own] |= (self._starts[own] < stop) & (self._ends[own] > begin)
        for several in chosen:
            several.sort(key=lambda snippet: snippet.offset)
        return chosen

    def _snippet(
        self, number: int, start: int, end: int, score: float, others: Sequence[Snippet]
    ) -> Snippet:
        """The passage with what matches from `start` to `end`, apart from other passages."""
        text = self._strings[number]
        low = max((o.offset + len(o.text) for o in others if o.offset <= start), default=0)
        high = min((o.offset for o in others if o.offset > start), default=len(text))
        begin, stop = placed(text, start, min(end, high), self._length, low, high)
        return Snippet(
            text[begin:stop],
            self._highlights(number, begin, stop),
            begin,
            self._column,
            score,
            bool(text[:begin].strip()),
            bool(text[stop:].strip()),
        )

    def _highlights(self, number: int, begin: int, stop: int) -> tuple[tuple[int, int], ...]:
        """The marks of a text in a passage, from its begin; those that touch are one."""
        starts, ends = self._mark_starts, self._mark_ends
        first, last = self._mark_offsets[number : number + 2]
        at = bisect_left(starts, begin, first, last)
        found: list[tuple[int, int]] = []
        while at < last and starts[at] < stop:
            start, end = starts[at] - begin, min(ends[at], stop) - begin
            if found and start <= found[-1][1]:
                start, end = found[-1][0], max(end, found.pop()[1])
            found.append((start, end))
            at += 1
        return tuple(found)


class _CodePoints:
    """Turns places in texts from bytes into code points."""

    def __init__(self, texts: Texts) -> None:
        self._begins = texts.offsets[:-1] - texts.offsets[0]
        data = texts.data[texts.offsets[0] : texts.offsets[-1]]
        self._before: Int32 | None = None  # code points before each byte
        if len(data) and data.max() > 127:
            self._before = np.zeros(len(data) + 1, np.int32)
            np.cumsum((data & 0xC0) != 0x80, dtype=np.int32, out=self._before[1:])

    def of(self, offsets: Int64, places: Int64) -> Int64:
        """int64[n] in code points; text d has places[offsets[d]:offsets[d + 1]]."""
        if self._before is None:
            return places
        own = np.repeat(self._begins, np.diff(offsets))
        found: Int64 = (self._before[own + places] - self._before[own]).astype(np.int64)
        return found


def placed(text: str, start: int, end: int, length: int, low: int, high: int) -> tuple[int, int]:
    """Where the passage of at most `length` code points with text[start:end], which is not longer,
    begins and ends, between `low` and `high`."""
    if high - low <= length:
        begin, stop = low, high
    else:
        earliest = max(low, start - (length - (end - start)))
        ends = _SENTENCE_END.finditer(text, max(0, earliest - _LONGEST_END), start)
        sentences = [found.end() for found in ends if earliest <= found.end()]
        if earliest == 0:
            sentences.insert(0, 0)
        begin = sentences[-1] if sentences else _word_begin(text, (earliest + start) // 2, start)
        if begin + length > high:  # the text ends: more of what is before it
            least = max(low, high - length)
            sentences = [sentence for sentence in sentences if sentence >= least]
            begin = sentences[0] if sentences else _word_begin(text, least, start)
        stop = min(begin + length, high)
        if stop < high:
            stop = _word_end(text, stop, end)
    while begin < start and text[begin].isspace():
        begin += 1
    while stop > begin and text[stop - 1].isspace():
        stop -= 1
    return begin, stop


def _word_begin(text: str, at: int, last: int) -> int:
    """The first beginning of a word from `at` on; at most `last`."""
    if at == 0 or text[at - 1].isspace():
        return at
    found = _SPACES.search(text, at, min(at + _FARTHEST, last))
    if found is not None:
        return found.end()
    while at < last and is_inside_character(text, at):
        at += 1
    return at


def _word_end(text: str, at: int, first: int) -> int:
    """The last end of a word up to `at`, from `first` on."""
    if text[at].isspace():
        return at
    for space in range(at - 1, max(first, at - _FARTHEST) - 1, -1):
        if text[space].isspace():
            return space
    while at > first and is_inside_character(text, at):
        at -= 1
    return at
