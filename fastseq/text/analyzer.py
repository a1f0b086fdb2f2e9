"""What a token is: the settings that turn text into terms, as one small frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from fastseq.errors import FormatError, SettingsError
from fastseq.estimator import (
    Checked,
    Choice,
    Flag,
    Span,
    Whole,
    describe_parameters,
    parameter,
    valid_parameters,
)
from fastseq.settings import one_of
from fastseq.text.language import (
    check_stemmer,
    check_stopwords,
    segmenter_version,
    stemmers,
    stems_fingerprint,
    stopword_languages,
    stopwords_fingerprint,
)
from fastseq.text.unicode_tables import unicode_tables
from fastseq.types import Texts

TOKENIZERS = ("word", "space", "char")
CJK = ("bigrams", "none", "words")
ON_INVALID = ("error", "replace")
LONGEST_NGRAM = 64


class _Tokenizer(Choice):
    """The name of a tokenizer, or a function."""

    def __call__(self, name: str, value: Any) -> Any:
        return value if callable(value) else super().__call__(name, value)


@describe_parameters
@dataclass(frozen=True)
class Analyzer:
    """How text becomes terms. Equal settings give equal terms under every Python.

    Raises SettingsError for a parameter that is not valid.
    """

    tokenizer: str | Callable[[str], list[str]] = parameter(
        default="word", check=_Tokenizer(TOKENIZERS), section="Analysis",
        help="Tokenizer: words, runs between white space, or characters.",
        notes='"word": runs of two or more letters, digits and underscores, those of '
        r're.findall(r"(?u)\b\w\w+\b", text.lower()); "space": those of str.split(); "char": '
        "every character that is not white space; or a function from str to a list of str, which "
        "gets the text as it is: slower, since Python runs for every text, and such an analyzer "
        "cannot be saved.",
    )  # fmt: skip
    cjk: str = parameter(
        default="bigrams", check=Choice(CJK), section="Analysis",
        help="Chinese, Japanese and Korean: overlapping bigrams, treated like other letters "
        "(none), or words (Chinese; needs fastseq[chinese]).",
        notes="Of runs of Han and kana (together) and of Hangul, with the word tokenizer. "
        '"bigrams" are of characters, a lone character staying itself, and cut the text at their '
        'borders; "words" segments Han and kana with rjieba, Hangul being bigrams; "none" treats '
        "them as any other letters.",
    )  # fmt: skip
    lowercase: bool = parameter(
        default=True, check=Flag(), section="Analysis", flag="lowercase/keep-case",
        help="Lower-case the text.", notes="Unicode's full mapping, final sigma included.",
    )  # fmt: skip
    fold_accents: bool = parameter(
        default=False, check=Flag(), section="Analysis", help="Remove accents: café becomes cafe.",
        notes="Compatibility variants too: NFKD, combining marks dropped, what is left composed "
        "again and lower-cased: «ﬁ» becomes «fi», «が» «か».",
    )  # fmt: skip
    stopwords: str | tuple[str, ...] = parameter(
        default="none", check=Checked(check_stopwords), section="Analysis", metavar="S",
        help="Stop words: lucene, a language's list, or none.",
        notes='Compared after lower-casing and folding and before stemming. "lucene" has its 33 '
        "English words, a language goes by its English name; or a tuple of words.",
    )  # fmt: skip
    stemmer: str = parameter(
        default="none", check=Checked(check_stemmer), section="Analysis", metavar="L",
        help="Snowball stemmer of a language, or none.",
        notes='One of PyStemmer\'s; "english" is Porter2.',
    )  # fmt: skip
    ngrams: tuple[int, int] = parameter(
        default=(1, 1), check=Span(LONGEST_NGRAM), section="Analysis", metavar="1-2",
        help="Lengths of word n-grams.",
        notes="Sequences of terms joined by a space, over what the filters left.",
    )  # fmt: skip
    char_ngrams: tuple[int, int] | None = parameter(
        default=None, check=Span(LONGEST_NGRAM), section="Analysis", metavar="3-5",
        help="Lengths of character n-grams of each word.", none="none",
        notes="Of each term padded with a space on both sides, a shorter padded term staying "
        "itself (scikit-learn's char_wb); not together with ngrams.",
    )  # fmt: skip
    min_length: int | None = parameter(
        default=None, check=Whole(1), section="Analysis", none="the tokenizer's rule",
        help="Minimum token length in characters.",
        notes="Not of the bigrams and words made of Han, kana and Hangul.",
    )  # fmt: skip
    max_length: int | None = parameter(
        default=None, check=Whole(1), section="Analysis", none="no maximum",
        help="Maximum token length in characters.",
        notes="Not of the bigrams and words made of Han, kana and Hangul.",
    )  # fmt: skip
    on_invalid: str = parameter(
        default="error", check=Choice(ON_INVALID), section="Analysis",
        help="Text that is not UTF-8: an error, or replacement characters.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if isinstance(self.stopwords, list):
            object.__setattr__(self, "stopwords", tuple(self.stopwords))
        for name, value in valid_parameters(self).items():
            object.__setattr__(self, name, value)
        if self.char_ngrams is not None and self.ngrams != (1, 1):
            raise SettingsError("ngrams and char_ngrams exclude each other: set one of them")
        least, most = self.min_length, self.max_length
        if least is not None and most is not None and least > most:
            raise SettingsError(f"min_length is {least} and max_length {most}: nothing is left")

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
