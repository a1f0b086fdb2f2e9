r"""The text syntax of queries: that of Lucene's classic query parser.

    black cat                     any of the words
    "black cat"  "black cat"~3    a phrase, a phrase with slop
    +black -dog  !dog             required and prohibited clauses, signs before a clause
    a AND b OR NOT c  a && b || c operators, in capitals
    (a OR b) AND c                groups
    cat^2  "black cat"^0.5  (a b)^3   boosts
    pre*  w?ld*  *wild            words by prefix and by wildcards
    word~  word~1  word~0.8       words within two edits, the most, one edit, a similarity
    /joh?n(ath[oa]n)/             words by regular expression
    title:word  title:(a b)  title:"a b"   a clause in a field
    year:[2000 TO 2010]  year:{2000 TO *]  year:>=2000  year:<5   ranges, { without the bound
    title:*  _exists_:title  *:*  documents with a value, all documents
    1\+1  \*  \u0041              a backslash makes an operator part of a word

Boolean precedence is that of Lucene's QueryParserBase.addClause: AND makes the clauses before and
after it required, unless they are prohibited. OR changes nothing, except where all clauses are
required by default: there it makes the clauses before and after it optional. A prohibited clause
alone matches nothing.

Signs, colons, slashes and operators inside a word are part of the word, and so is everything after
the colon of an unknown field (`re: invoice`, `https://x.org/?q=a`, `12:30`). `?` and `!` at the end
of a text of words alone are punctuation, and so are `?`, `!` and `*` after white space at the end
of any text. Similarity s allows floor((1 - s) · length) edits, at most 2.

A malformed text is plain words as a whole. Some texts are malformed here of which Lucene ignores a
part: boosts, edits and slops that are not numbers, edits after a prefix, wildcard or regular
expression, and white space between a clause and its sign, `^` or `~`. So are a range without a
field, and a word of wildcards alone, apart from `field:*`.

Source: QueryParser.jj and QueryParserBase.java of Apache Lucene 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple, NoReturn

from fastseq.errors import SettingsError, quoted
from fastseq.query import (
    MAX_EDITS,
    MAX_SCORE,
    OPERATOR_WORDS,
    All,
    Boolean,
    Boost,
    Exists,
    Fuzzy,
    Phrase,
    Prefix,
    Query,
    Range,
    Regex,
    Term,
    Wildcard,
    is_plain,
)
from fastseq.settings import one_of

_NONE, _AND, _OR = 0, 1, 2  # the operator before a clause
_SHOULD, _MUST, _MUST_NOT = 0, 1, 2  # the sign before a clause, and how it occurs
_CONJUNCTIONS = {"AND": _AND, "&&": _AND, "OR": _OR, "||": _OR}
_SIGNS = {"+": _MUST, "-": _MUST_NOT, "!": _MUST_NOT}
_EXISTS = "_exists_"

_PLAIN_CHARACTER = r"""[^\s()\[\]{}"^~\\]"""
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
# white space, then a word of ordinary characters, perhaps with a sign, or any other character
_NEXT = re.compile(
    r"""\s*+(?: ([+\-!]?)
                ([^\s()\[\]{}"^~\\:*?<>+\-!/][^\s()\[\]{}"^~\\:*?]*+) (?=[\s)]|\Z)
              | (\S) )?""",
    re.VERBOSE,
)
_WORD = re.compile(rf"(?:{_PLAIN_CHARACTER}|\\.)++", re.DOTALL)
_NAME = re.compile(r"((?:[^:\\]|\\.)++):", re.DOTALL)
_PHRASE = re.compile(_QUOTED, re.DOTALL)
_REGEX = re.compile(r"/((?:[^/\\]|\\.)*+)/", re.DOTALL)
_AFTER_REGEX = re.compile(r"[\s)^~]|\Z")
_BOUND = rf"{_QUOTED}|(?:[^\s\]}}\"\\]|\\.)++"
_RANGE = re.compile(rf"([\[{{])\s*+({_BOUND})\s++TO\s++({_BOUND})\s*+([\]}}])", re.DOTALL)
_COMPARISON = re.compile(rf"([<>]=?+)({_QUOTED}|(?:{_PLAIN_CHARACTER}|\\.)++)", re.DOTALL)
_SUFFIX = re.compile(rf"([~^])({_PLAIN_CHARACTER}*)")
_PUNCTUATION = re.compile(r"[?!*]+\s*\Z")
_ANY_OPERATOR = re.compile(r"[+\-!]|AND|OR|NOT|&&|\|\|")
_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{1,400})?|\.[0-9]{1,400}")
_WHOLE = re.compile(r"[0-9]{1,10}")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_WILD = re.compile(r"(?<!\\)(?:\\\\)*+([*?])")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Parsed(NamedTuple):
    """A parsed text.

    query  : what it asks for
    notice : what was not taken as it is written, such as a malformed text for plain words, else
             None
    plain  : whether the query is Term(text)
    """

    query: Query
    notice: str | None
    plain: bool


class _MalformedError(Exception):
    """A text is not a query: what is wrong, and where, counted from 0."""

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.at = at


def parse(
    text: str,
    *,
    operator: str = "or",
    fields: Collection[str] = (),
    columns: Collection[str] = (),
) -> Parsed:
    """Parse a text to a query.

    operator        : "or", or "and" where clauses without signs and operators are all required
    fields, columns : the names that may precede a colon; others are part of the text

    A text of words alone is Term(text), or with operator="and" a Boolean that requires each of
    several words. So is a malformed one, with a notice that says what is wrong and where, counted
    in characters from 1. No text raises an error; SettingsError is for another operator or type.
    """
    if not isinstance(text, str):
        raise SettingsError(f"a query must be a string, not {quoted(text)}")
    if operator != "or":
        one_of("operator", operator, ("or", "and"))
    if not text.isascii() and (invalid := _SURROGATE.search(text)):
        text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
        return _words(text, operator, _MalformedError("invalid Unicode", invalid.start()))
    if is_plain(text):
        return Parsed(Term(text), None, True) if operator == "or" else _words(text, operator, None)
    parser = _Parser(text, operator == "and", fields, columns)
    try:
        query = parser.parse()
    except _MalformedError as error:
        return _words(text, operator, error)
    if query is None:
        return _words(text, operator, None)
    return Parsed(query, "; ".join(dict.fromkeys(parser.notices)) or None, False)


def as_words(text: str, operator: str, problem: str) -> Parsed:
    """A text as plain words, because of a problem."""
    found = _words(text, operator, None)
    return found._replace(notice=f"{problem}; searched for as plain words")


def _words(text: str, operator: str, error: _MalformedError | None) -> Parsed:
    """The text as plain words."""
    notice = None
    if error is not None:
        notice = f"{error.problem} at character {error.at + 1}; searched for as plain words"
    if operator == "and" and len(words := text.split()) > 1:
        return Parsed(Boolean(must=tuple(map(Term, words))), notice, False)
    return Parsed(Term(text), notice, True)


class _Group:
    """The clauses between two parentheses, or of the whole text.

    field : of the clauses without one of their own
    at    : where it begins
    """

    __slots__ = ("at", "conjunction", "field", "first_sign", "occurs", "queries", "sign")

    def __init__(self, field: str | None, at: int) -> None:
        self.field = field
        self.at = at
        self.queries: list[Query] = []
        self.occurs: list[int] = []
        self.conjunction = _NONE
        self.sign = _SHOULD
        self.first_sign = _SHOULD


class _Parser:
    """One pass over a text, with a stack of open groups."""

    __slots__ = ("columns", "end", "every", "field", "fields", "group", "notices", "open",
                 "pending", "plain", "text")  # fmt: skip

    def __init__(
        self, text: str, every: bool, fields: Collection[str], columns: Collection[str]
    ) -> None:
        self.text = text
        self.end = len(text)
        self.every = every
        self.fields = fields
        self.columns = columns
        self.plain = True  # so far, words alone
        self.field: str | None = None  # before the colon just read
        self.pending = 0  # where the last operator, sign or field begins
        self.group = _Group(None, 0)
        self.open: list[_Group] = []
        self.notices: list[str] = []

    def parse(self) -> Query | None:
        """The query; None for words alone. Raises _MalformedError."""
        text, read = self.text, _READERS.get
        following: Callable[[str, int], re.Match[str]] = _NEXT.match  # type: ignore[assignment]
        at = 0
        while True:
            found = following(text, at)
            sign, word, other = found.groups()
            if word is not None and word not in OPERATOR_WORDS:
                if sign:
                    self.signed(_SIGNS[sign], found.start(1))
                self.add(Term(word, self.group.field if self.field is None else self.field))
                at = found.end()
            elif word is not None and not sign:
                at = self.operator(word, found.start(2))
            elif word is None and other is None:
                break
            else:
                at = found.start(3 if word is None else 1)
                at = read(text[at], _Parser.word)(self, at)
        if self.open:
            raise _MalformedError("unbalanced parenthesis", self.group.at)
        return None if self.plain else self.closed()

    # ---- clauses and groups

    def add(self, query: Query) -> None:
        """Add a clause, as Lucene's addClause: see the top."""
        group = self.group
        occurs, sign, conjunction = group.occurs, group.sign, group.conjunction
        if occurs:
            if conjunction and occurs[-1] != _MUST_NOT:
                if conjunction == _AND:
                    occurs[-1] = _MUST
                elif self.every:
                    occurs[-1] = _SHOULD
        else:
            group.first_sign = sign
        by_or_default = sign == _MUST or conjunction == _AND
        required = conjunction != _OR if self.every else by_or_default
        occurs.append(_MUST_NOT if sign == _MUST_NOT else _MUST if required else _SHOULD)
        group.queries.append(query)
        group.conjunction = _NONE
        group.sign = _SHOULD
        self.field = None

    def closed(self) -> Query:
        """The query of the innermost group, which is complete."""
        self.check_complete()
        group = self.group
        queries, occurs = group.queries, group.occurs
        if not queries:
            raise _MalformedError("nothing in parentheses", group.at)
        if len(queries) == 1 and group.first_sign == _SHOULD:
            return queries[0]
        clauses: tuple[list[Query], list[Query], list[Query]] = ([], [], [])
        for query, occur in zip(queries, occurs, strict=True):
            clauses[occur].append(query)
        should, must, must_not = map(tuple, clauses)
        try:
            return Boolean(must, should, must_not)
        except SettingsError as error:  # too deep
            raise _MalformedError(str(error), group.at) from None

    def check_complete(self) -> None:
        """Raise an error where an operator, sign or field is not followed by a clause."""
        if self.field is not None:
            raise _MalformedError(f"{_short(self.field)}: without a clause after it", self.pending)
        if self.group.sign or self.group.conjunction:
            operator = _ANY_OPERATOR.match(self.text, self.pending)
            name = operator[0] if operator else ""
            raise _MalformedError(f"{name} without a clause after it", self.pending)

    def opening(self, at: int) -> int:
        self.plain = False
        self.open.append(self.group)
        field = self.group.field if self.field is None else self.field
        self.field = None
        self.group = _Group(field, at)
        return at + 1

    def closing(self, at: int) -> int:
        if not self.open:
            raise _MalformedError("unbalanced parenthesis", at)
        query = self.closed()
        self.group = self.open.pop()
        return self.boosted(query, at + 1)

    def sign(self, at: int) -> int:
        """One of + - !, before a clause."""
        after = self.text[at + 1 : at + 2]
        if not after or after.isspace() or after == ")":
            return self.lone(at)
        if self.text[at] == "!" and _PUNCTUATION.match(self.text, at):
            return self.lone(at)
        self.signed(_SIGNS[self.text[at]], at)
        return at + 1

    def signed(self, sign: int, at: int) -> None:
        if self.field is not None or self.group.sign:
            self.check_complete()
        self.plain = False
        self.pending = at
        self.group.sign = sign

    def lone(self, at: int) -> int:
        """Operators that no clause follows: punctuation at the end of a text, else an error."""
        found = _PUNCTUATION.match(self.text, at)
        group = self.group
        complete = group.queries and not (self.field or group.sign or group.conjunction)
        if found and complete and (self.text[at - 1].isspace() or "*" not in found[0]):
            return self.end
        raise _MalformedError(f"{self.text[at]} without a word", at)

    # ---- kinds of clauses

    def word(self, at: int) -> int:
        text = self.text
        found = _WORD.match(text, at)
        if found is None:
            self.misplaced(at)
        word = found[0]
        after = found.end()
        if word in OPERATOR_WORDS:
            return self.operator(word, at)
        if self.field is None and ":" in word and (name := _NAME.match(word)):
            if word == "*:*":
                return self.boosted(All(), after)
            known = self.unescaped(name[1], at)
            if known in self.fields or known in self.columns:
                self.plain = False
                self.pending = at
                self.field = known
                return at + name.end()
            if name[1] == _EXISTS and name.end() < len(word):
                known = self.unescaped(word[name.end() :], at)
                if known not in self.fields and known not in self.columns:
                    both = self.fields, self.columns
                    fields, columns = (", ".join(names) or "none" for names in both)
                    raise _MalformedError(
                        f"unknown field {quoted(known)} (fields: {fields}; stored columns: "
                        f"{columns})", at + name.end(),
                    )  # fmt: skip
                return self.boosted(Exists(known), after)
            wild = False  # plain text, with whatever follows the colon
        else:
            wild = "*" in word or "?" in word
        field = self.group.field if self.field is None else self.field
        if field is not None and word[0] in "<>":
            return self.comparison(field, at)
        if wild:
            return self.wildcards(word, field, at, after)
        if "\\" in word:
            self.plain = False
            word = self.unescaped(word, at)
        if after < self.end and text[after] in "~^":
            return self.suffixed(word, field, after)
        self.add(Term(word, field))
        return after

    def operator(self, word: str, at: int) -> int:
        """AND, OR or NOT."""
        group = self.group
        if word == "NOT":
            self.signed(_MUST_NOT, at)
            return at + 3
        self.check_complete()
        if not group.queries:
            raise _MalformedError(f"{word} without a clause before it", at)
        self.plain = False
        self.pending = at
        group.conjunction = _CONJUNCTIONS[word]
        return at + len(word)

    def wildcards(self, word: str, field: str | None, at: int, after: int) -> int:
        """A word with * or ?, of which backslashes may make all plain."""
        if not word.strip("*?!"):
            if word == "*" and self.field is not None:
                return self.boosted(Exists(self.field), after)
            return self.lone(at)
        if self.plain and "\\" not in word and not self.text[after:].strip():
            rest = word.rstrip("?!")
            if "*" not in rest and "?" not in rest:  # a question
                self.add(Term(word))
                return after
        self.plain = False
        pattern = word if "\\" not in word else self.pattern(word, at)
        wild = list(_WILD.finditer(pattern))
        if not wild:
            return self.suffixed(self.unescaped(pattern, at), field, after)
        if wild[0].end() == len(pattern) and wild[0][1] == "*":
            return self.boosted(Prefix(self.unescaped(pattern[:-1], at), field), after)
        return self.boosted(Wildcard(pattern, field), after)

    def pattern(self, word: str, at: int) -> str:
        """The word with backslashes before literal *, ? and backslashes alone."""

        def canonical(escape: re.Match[str]) -> str:
            character = self.unescaped(escape[0], at)
            return f"\\{character}" if character in "*?\\" else character

        return _ESCAPE.sub(canonical, word)

    def phrase(self, at: int) -> int:
        found = _PHRASE.match(self.text, at)
        if found is None:
            raise _MalformedError("unbalanced quotation mark", at)
        words = self.unescaped(found[0][1:-1], at)
        if not words.strip():
            raise _MalformedError("an empty phrase", at)
        field = self.group.field if self.field is None else self.field
        slop, boost, after = self.suffixes(found.end())
        if slop is not None and not (_WHOLE.fullmatch(slop) and int(slop) < 1 << 31):
            wanted = f"a whole number below {1 << 31}"
            raise _MalformedError(f"slop must be {wanted}, not ~{_short(slop)}", found.end())
        return self.finished(Phrase(words, field, int(slop or 0)), boost, after)

    def regex(self, at: int) -> int:
        if at + 1 == self.end or self.text[at + 1].isspace():
            return self.word(at)
        found = _REGEX.match(self.text, at)
        if found is None or not _AFTER_REGEX.match(self.text, found.end()):
            raise _MalformedError("unbalanced slash of a regular expression", at)
        if not found[1]:
            raise _MalformedError("an empty regular expression", at)
        pattern = re.sub(r"\\(.)", lambda pair: "/" if pair[1] == "/" else pair[0], found[1])
        field = self.group.field if self.field is None else self.field
        return self.boosted(Regex(pattern, field), found.end())

    def range(self, at: int) -> int:
        found = _RANGE.match(self.text, at)
        if found is None:
            closed = re.compile(r"[\]}]").search(self.text, at)
            raise _MalformedError(
                "a bracket that is no range [low TO high]" if closed else "unbalanced bracket", at
            )
        field = self.group.field if self.field is None else self.field
        if field is None:
            raise _MalformedError("a range without a field", at)
        low, high = self.bound(found[2], at), self.bound(found[3], at)
        query = Range(field, low, high, found[1] == "[", found[4] == "]")
        return self.boosted(query, found.end())

    def bound(self, text: str, at: int) -> str | None:
        """A bound of a range; None for none."""
        if text == "*":
            return None
        return self.unescaped(text[1:-1] if text[0] == '"' else text, at)

    def comparison(self, field: str, at: int) -> int:
        """field:>=10"""
        found = _COMPARISON.match(self.text, at)
        value = found and self.bound(found[2], at)
        if found is None or value is None:
            raise _MalformedError("a comparison without a value", at)
        inclusive = found[1].endswith("=")
        if found[1][0] == ">":
            query = Range(field, low=value, include_low=inclusive)
        else:
            query = Range(field, high=value, include_high=inclusive)
        return self.boosted(query, found.end())

    def misplaced(self, at: int) -> NoReturn:
        """Raise the error for a character that begins no clause."""
        character = self.text[at]
        if character in "]}":
            raise _MalformedError("unbalanced bracket", at)
        if character == "\\":
            raise _MalformedError("a backslash with nothing after it", at)
        raise _MalformedError(f"{character} that follows no word", at)

    # ---- boosts, edits and escapes

    def suffixes(self, at: int) -> tuple[str | None, float | None, int]:
        """What follows ~, the boost, and where the clause ends; None for what is not there."""
        fuzzy: str | None = None
        boost: float | None = None
        while (found := _SUFFIX.match(self.text, at)) is not None:
            sign, value = found.groups()
            if (fuzzy if sign == "~" else boost) is not None:
                raise _MalformedError(f"a second {sign}", at)
            if sign == "~":
                fuzzy = value
            elif not _NUMBER.fullmatch(value) or float(value) > MAX_SCORE:
                wanted = f"a boost must be a number from 0 to {MAX_SCORE:g}"
                raise _MalformedError(f"{wanted}, not ^{_short(value)}", at)
            else:
                boost = float(value)
            at = found.end()
        return fuzzy, boost, at

    def boosted(self, query: Query, at: int) -> int:
        """Add a clause, and the boost after it, if any."""
        self.plain = False
        if at == self.end or self.text[at] not in "~^":
            self.add(query)
            return at
        fuzzy, boost, after = self.suffixes(at)
        if fuzzy is not None:
            raise _MalformedError("~ after what is neither a word nor a phrase", at)
        return self.finished(query, boost, after)

    def suffixed(self, word: str, field: str | None, at: int) -> int:
        """Add a word with the edits and the boost after it, if any."""
        fuzzy, boost, after = self.suffixes(at)
        if fuzzy is None:
            return self.finished(Term(word, field), boost, after)
        edits = _edits(fuzzy, len(word))
        if edits is None:
            raise _MalformedError(
                f"edits must be a whole number or a similarity below 1, not ~{_short(fuzzy)}", at
            )
        if edits > MAX_EDITS:
            self.notices.append(
                f"{_short(word)}~{_short(fuzzy)}: at most {MAX_EDITS} edits are searched for"
            )
            edits = MAX_EDITS
        return self.finished(Fuzzy(word, edits, field=field), boost, after)

    def finished(self, query: Query, boost: float | None, at: int) -> int:
        self.plain = False
        if boost is not None:
            try:
                query = Boost(query, boost)
            except SettingsError as error:  # too deep
                raise _MalformedError(str(error), at) from None
        self.add(query)
        return at

    def unescaped(self, text: str, at: int) -> str:
        """The text without backslashes that make the next character plain."""
        if "\\" not in text:
            return text

        def plain(escape: re.Match[str]) -> str:
            character = escape[1]
            if character[0] != "u":
                return character
            if len(character) == 1 or _SURROGATE.match(code := chr(int(character[1:], 16))):
                raise _MalformedError("\\u without the code of a character", at)
            return code

        return _ESCAPE.sub(plain, text)


_READERS = {
    "(": _Parser.opening,
    ")": _Parser.closing,
    "+": _Parser.sign,
    "-": _Parser.sign,
    "!": _Parser.sign,
    '"': _Parser.phrase,
    "[": _Parser.range,
    "{": _Parser.range,
    "/": _Parser.regex,
}


def _edits(text: str, length: int) -> int | None:
    """The edits of ~text after a word of a length, at most MAX_EDITS of a similarity; None where
    the text is no number of them."""
    if not text:
        return MAX_EDITS
    if not _NUMBER.fullmatch(text):
        return None
    from fractions import Fraction

    number = Fraction(text)
    if number >= 1:
        return int(number) if number.denominator == 1 else None
    return min(MAX_EDITS, int((1 - number) * length)) if number else 0


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:20]}…"
