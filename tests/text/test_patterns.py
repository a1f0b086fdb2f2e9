"""Wildcards and regular expressions, against Python's re."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import SettingsError
from fastseq.text.patterns import MOST_STATES, Automaton, regex, wildcard
from tests.naive import vocabulary as naive

TEXT = "ab-]^é中😀0٣ \n_"


def class_part(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\]^-" else c for c in text)


ranges = st.tuples(st.sampled_from(TEXT), st.sampled_from(TEXT)).map(
    lambda pair: "-".join(class_part(c) for c in sorted(pair))
)
escapes = st.sampled_from(
    [r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\n", r"\x61", r"\u4e2d", r"\."]
)
bracketed = st.tuples(
    st.sampled_from(["", "^"]),
    st.lists(
        ranges | escapes | st.text(TEXT, min_size=1, max_size=2).map(class_part),
        min_size=1,
        max_size=3,
    ),
).map(lambda parts: f"[{parts[0]}{''.join(parts[1])}]")
atoms = st.sampled_from(TEXT).map(re.escape) | st.just(".") | escapes | bracketed
quantifiers = st.sampled_from(
    ["?", "*", "+", "{2}", "{0}", "{1,}", "{0,2}", "{1,3}", "*?", "+?", "??"]
)
expressions = st.recursive(
    atoms,
    lambda part: st.one_of(
        st.lists(part, max_size=3).map("".join),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(part, quantifiers).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=8,
)


@given(expressions, st.lists(st.text(TEXT, max_size=5), max_size=8))
@settings(max_examples=1500, deadline=None)
def test_expressions_match_as_in_python(pattern: str, words: list[str]) -> None:
    automaton = regex(pattern)
    accepts = re.compile(pattern, re.DOTALL)
    for word in words:
        assert automaton.matches(word) == (accepts.fullmatch(word) is not None), (pattern, word)
        if accepts.fullmatch(word):
            assert word.encode().startswith(automaton.prefix)


@given(st.text("ab?*\\é中", max_size=7), st.lists(st.text("ab?*\\é中", max_size=6), max_size=8))
@settings(max_examples=800, deadline=None)
def test_wildcards_match_as_expressions(pattern: str, words: list[str]) -> None:
    automaton = wildcard(pattern)
    for word in words:
        assert automaton.matches(word) == naive.wildcard_matches(pattern, word), (pattern, word)
        if naive.wildcard_matches(pattern, word):
            assert word.encode().startswith(automaton.prefix)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("colou?r|[hk]ue", ["color", "colour", "hue", "kue"], ["colouur", "ue", "hues", ""]),
        ("^ab+$", ["ab", "abb"], ["a", "^ab$"]),
        (r"a\$", ["a$"], ["a"]),
        (r"\\$", ["\\"], ["\\$"]),
        ("[]a]+", ["]", "a]"], ["b"]),
        ("[a-]+", ["a-a"], ["b"]),
        ("[a-c-]", ["-", "b"], ["d"]),
        (r"\x{1F600}\x{e9}", ["😀é"], ["😀"]),
        ("a|", ["a", ""], ["aa"]),
        ("()", [""], ["a"]),
        ("}]", ["}]"], ["}"]),
        (r"[\d_]{2}", ["1_", "٣3"], ["1"]),
        ("[^\\x00-\U0010ffff]?", [""], ["a"]),
    ],
)
def test_examples(pattern: str, matching: list[str], other: list[str]) -> None:
    automaton = regex(pattern)
    assert [word for word in [*matching, *other] if automaton.matches(word)] == matching


def test_the_literal_prefix_is_the_longest() -> None:
    for pattern, prefix in [
        ("abc.*", "abc"), ("ab+c?", "ab"), ("(aé1|aé2)x", "aé"), ("a?b", ""), ("", ""),
        ("中{3}", "中中中"), ("[a]b|ab", "ab"), ("[Aa]b", ""),
    ]:  # fmt: skip
        assert regex(pattern).prefix.decode() == prefix, pattern
    assert wildcard("pre*").prefix == b"pre"
    assert wildcard(r"a\*b?c").prefix == b"a*b"
    endless = regex("a*[^\\x00-\U0010ffff]")  # never matches, though a's are always read
    assert not endless.matches("a" * 100)


@pytest.mark.parametrize(
    ("pattern", "position", "problem"),
    [
        ("a(b", 1, r"a \( without \)"),
        ("a)b", 1, r"a \) without \("),
        ("(()", 0, r"a \( without \)"),
        ("ab[c", 2, r"a \[ without \]"),
        ("[]", 0, r"a \[ without \]"),
        ("*a", 0, r"nothing to repeat before \*"),
        ("a|+", 2, r"nothing to repeat before \+"),
        ("a**", 2, r"nothing to repeat before \*"),
        ("a{2}{3}", 4, r"nothing to repeat before \{"),
        ("a{1000}{1000}", 7, r"nothing to repeat before \{"),
        ("a{", 1, r"expected \{m\}"),
        ("a{,3}", 1, r"expected \{m\}"),
        ("a{3,2}", 1, "a minimum above its maximum"),
        ("ab\\", 2, "a backslash at the end"),
        (r"a\y", 1, r"an unknown escape \\y"),
        (r"\x{110000}", 0, "beyond the last code point"),
        ("[b-a]", 1, "whose end is before its beginning"),
        (r"[\d-z]", 1, "a range between classes"),
        ("a^b", 1, "inside of the pattern"),
        ("a$b", 1, "inside of the pattern"),
        ("(" * 101 + ")" * 101, 100, "nested more than 100 deep"),
    ],
)
def test_wrong_expressions(pattern: str, position: int, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"at character {position + 1}: .*{problem}"):
        regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        (r"(a)\1", r"the backreference \\1 at character 4"),
        ("(?=a)b", "look-around at character 1"),
        ("a(?!b)", "look-around at character 2"),
        ("(?<=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(?i)a", r"a group of the kind \(\?i"),
        ("(?P<n>a)", r"a group of the kind \(\?P"),
        (r"\bword\b", r"the assertion \\b"),
        (r"\p{L}", r"the Unicode class \\p"),
        ("[[:alpha:]]", "a POSIX class at character 2"),
        ("a*+", "a possessive quantifier"),
    ],
)
def test_unsupported_expressions(pattern: str, what: str) -> None:
    with pytest.raises(SettingsError, match=f"has {what}.*is not supported"):
        regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a{1000}){1000}", "a{10001}", "a{99999999999999999999}", "(((a{99}){99}){99}){99}",
        "[ab]*a[ab]{14}", "a" * 100_000, "(ab|cd)" * 5000, "(a?){5000}", "((a*)*){5000}",
        "(a|){200}(a|ab|){3000}", "".join(map(chr, range(0x4E00, 0x4E00 + 5000))),
    ],
)  # fmt: skip
def test_large_automata_fail_quickly(pattern: str) -> None:
    start = time.process_time()
    with pytest.raises(
        SettingsError, match=r"regular expression '.* needs more than [\d,]+ (states|steps|trans)"
    ):
        regex(pattern)
    assert time.process_time() - start < 15  # none takes more than a second on an idle machine


def test_large_wildcards_fail() -> None:
    with pytest.raises(SettingsError, match=r"the wildcard .* needs more than 10,000 states"):
        wildcard("*a" + "?" * 20)
    with pytest.raises(SettingsError, match=r"the wildcard .* needs more than 10,000 states"):
        wildcard("a" * 1_000_000)
    assert wildcard("*" * 1_000_000).matches("anything")


def test_the_number_of_states_is_the_limit() -> None:
    automaton = regex(f"a{{{MOST_STATES - 2}}}")  # with the dead state and the accepting one
    assert len(automaton.table) <= MOST_STATES
    assert automaton.matches("a" * (MOST_STATES - 2))


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", "(x+x+)+y", "([ax]+)*b"])
def test_pathological_expressions_are_linear(pattern: str) -> None:
    automaton = regex(pattern)
    assert len(automaton.table) < 10
    assert not automaton.matches("a" * 20_000)
    assert not automaton.matches("x" * 20_000)


def test_states_that_always_accept_are_marked() -> None:
    """They spare reading the rest of the words."""
    for automaton in (wildcard("ab*"), regex("ab.*"), wildcard("*a*b*")):
        state = 1
        for character in "ab":
            place = np.searchsorted(automaton.bounds, ord(character), "right") - 1
            state = automaton.table[state, automaton.classes[place]]
        assert automaton.flags[state] == 3
    assert not (regex("ab[^x]*").flags & 2).any()


def test_dtypes() -> None:
    automaton: Automaton = regex("[a-zé中]+")
    assert (
        automaton.table.dtype
        == automaton.classes.dtype
        == automaton.ascii_classes.dtype
        == np.uint16
    )
    assert automaton.flags.dtype == np.uint8
    assert automaton.bounds.dtype == np.uint32
    assert automaton.ascii_classes.shape == (128,)
