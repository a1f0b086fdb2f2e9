"""What a token is: the settings that turn text into terms, as one small frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from fastseq.errors import FormatError, SettingsError
from fastseq.settings import flag, one_of, whole
from fastseq.text.segmentation import segmenter_version
from fastseq.text.stemming import check_stemmer, stemmers, stems_fingerprint
from fastseq.text.stopwords import check_stopwords, stopword_languages, stopwords_fingerprint
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Texts

TOKENIZERS = ("word", "space", "char")
CJK = ("bigrams", "none", "words")
ON_INVALID = ("error", "replace")
LONGEST_NGRAM = 64


@dataclass(frozen=True)
class Analyzer:
    """How text becomes terms. Equal settings give equal terms under every Python.

    tokenizer     "word": runs of two or more letters, digits and underscores, the tokens of
                  re.findall(r"(?u)\\b\\w\\w+\\b", text.lower()); "space": what str.split() gives;
                  "char": every character that is not white space; or a function from str to a
                  list of str, which gets the text as it is: plainly slower (Python runs for every
                  text), and such an analyzer cannot be saved
    cjk           runs of Han and kana (together) and of Hangul, with the word tokenizer:
                  "bigrams" makes them overlapping character bigrams, a lone character staying
                  itself, and cuts the text at their borders; "words" segments Han and kana with
                  rjieba (the extra `chinese`), Hangul being bigrams; "none" treats them as any
                  other letters
    lowercase     lower-case the text (Unicode's full mapping, final sigma included)
    fold_accents  drop accents and compatibility variants: NFKD, combining marks dropped, what is
                  left composed again and lower-cased: «café» becomes «cafe», «ﬁ» «fi», «が» «か»
    stopwords     words to drop, compared after lower-casing and folding and before stemming:
                  "none", "lucene" (its 33 English words), a language's list by its English name,
                  or a tuple of words
    stemmer       "none" or a Snowball stemmer of PyStemmer; "english" is Porter2
    ngrams        (low, high): sequences of low to high terms joined by a space, over what the
                  filters left
    char_ngrams   (low, high): sequences of low to high characters of each term padded with a
                  space on both sides, a shorter padded term staying itself (scikit-learn's
                  char_wb); not together with ngrams
    min_length, max_length
                  code points of the tokens kept; None: the tokenizer's own rule. They do not
                  concern the bigrams and words made of Han, kana and Hangul
    on_invalid    text that is not UTF-8: "error", or "replace" as bytes.decode does

    Raises SettingsError for a value outside of these.
    """

    tokenizer: str | Callable[[str], list[str]] = "word"
    cjk: str = "bigrams"
    lowercase: bool = True
    fold_accents: bool = False
    stopwords: str | tuple[str, ...] = "none"
    stemmer: str = "none"
    ngrams: tuple[int, int] = (1, 1)
    char_ngrams: tuple[int, int] | None = None
    min_length: int | None = None
    max_length: int | None = None
    on_invalid: str = "error"

    def __post_init__(self) -> None:
        if not callable(self.tokenizer):
            one_of("tokenizer", self.tokenizer, TOKENIZERS)
        one_of("cjk", self.cjk, CJK)
        one_of("on_invalid", self.on_invalid, ON_INVALID)
        for name in ("lowercase", "fold_accents"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        if isinstance(self.stopwords, list):
            object.__setattr__(self, "stopwords", tuple(self.stopwords))
        check_stopwords(self.stopwords)
        check_stemmer(self.stemmer)
        object.__setattr__(self, "ngrams", _span("ngrams", self.ngrams))
        if self.char_ngrams is not None:
            object.__setattr__(self, "char_ngrams", _span("char_ngrams", self.char_ngrams))
            if self.ngrams != (1, 1):
                raise SettingsError("ngrams and char_ngrams exclude each other: set one of them")
        for name in ("min_length", "max_length"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole(name, value, 1))
        if None not in (self.min_length, self.max_length) and self.min_length > self.max_length:  # type: ignore[operator]
            raise SettingsError(
                f"min_length is {self.min_length} and max_length {self.max_length}: nothing is left"
            )

    @classmethod
    def for_language(cls, language: str, **settings: Any) -> Analyzer:
        """An analyzer with a language's stop words and stemmer (what it has of the two).

        language: its English name. settings: the other fields; stopwords or stemmer given here
        win. Raises SettingsError for a language that has neither.
        """
        lists, stems = stopword_languages(), stemmers()
        one_of("language", language, sorted({*lists, *stems}))
        found = {
            "stopwords": language if language in lists else "none",
            "stemmer": language if language in stems else "none",
        }
        return cls(**{**found, **settings})

    def tokens(self, text: str) -> list[str]:
        """The terms of one text, in order; for looking at, not for speed."""
        from fastseq.text.lexicon import Lexicon

        if not isinstance(text, str):
            raise SettingsError(f"text must be a string, not {text!r}")
        lexicon = Lexicon(self)
        ids = lexicon.encode(Texts.from_strings([text])).values.tolist()
        terms = lexicon.terms().to_strings()
        return [terms[i] for i in ids]

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them, and the version of the Unicode tables.

        Raises SettingsError for a tokenizer that is a function.
        """
        if callable(self.tokenizer):
            raise SettingsError("an analyzer whose tokenizer is a Python function cannot be saved")
        out = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in out.items():
            if isinstance(value, tuple):
                out[name] = list(value)
        out["unicode"] = unicode_tables().version
        packages = self._fingerprints()
        return {**out, "packages": packages} if packages else out

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Analyzer:
        """The analyzer that to_dict wrote.

        Raises FormatError for settings that this version does not know or cannot honour.
        """
        if not isinstance(saved, Mapping):
            raise FormatError(f"the saved analyzer must be a dictionary, not {saved!r}")
        settings = dict(saved)
        version = settings.pop("unicode", None)
        if version != unicode_tables().version:
            raise FormatError(
                f"the analyzer was saved with Unicode tables {version!r}; "
                f"this version of fastseq has {unicode_tables().version!r}"
            )
        packages = settings.pop("packages", {})
        unknown = sorted(settings.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise FormatError(
                f"the analyzer has settings that this version of fastseq does not know: "
                f"{', '.join(map(str, unknown))}"
            )
        try:
            analyzer = cls(**settings)
        except (SettingsError, TypeError) as error:
            raise FormatError(f"the saved analyzer cannot be rebuilt: {error}") from None
        ours = analyzer._fingerprints()
        if packages != ours:
            saved_with = packages if isinstance(packages, dict) else {}
            differs = [name for name in ours if saved_with.get(name) != ours[name]]
            raise FormatError(
                f"saved with another version of {' and '.join(differs) or 'fastseq'}, which takes "
                "words differently: build it again, or install that version"
            )
        return analyzer

    def _fingerprints(self) -> dict[str, Any]:
        """What shows that another version of a package would analyse text in another way."""
        found: dict[str, Any] = {}
        if self.stemmer != "none":
            found["PyStemmer"] = stems_fingerprint(self.stemmer)
        if isinstance(self.stopwords, str) and self.stopwords not in ("none", "lucene"):
            found["stop-words"] = stopwords_fingerprint(self.stopwords)
        if self.tokenizer == "word" and self.cjk == "words":
            found["rjieba"] = segmenter_version()
        return found


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _span(name: str, value: object) -> tuple[int, int]:
    """A pair (low, high) of whole numbers, 1 <= low <= high."""
    if isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_int, value)):
        low, high = value
        if 1 <= low <= high <= LONGEST_NGRAM:
            return low, high
    raise SettingsError(
        f"{name} is {value!r}; expected two whole numbers, 1 <= low <= high <= {LONGEST_NGRAM}"
    )
