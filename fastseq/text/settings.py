"""The parameters of an analyzer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from fastseq.errors import SettingsError
from fastseq.estimator import Checked, Choice, Flag, Span, Whole, parameter, valid_parameters
from fastseq.text.language import check_stemmer, check_stopwords
from fastseq.text.normalising import FIRST, LAST, check_normalization

# default tokenizers: of an index and of Analyzer.tokens; of features and word vectors
INDEX_TOKENIZER, FEATURES_TOKENIZER = "unicode", "word"
_LONGEST_NGRAM = 64


class _Tokenizer(Choice):
    """The name of a tokenizer, or a function."""

    def __call__(self, name: str, value: Any) -> Any:
        return value if callable(value) else super().__call__(name, value)


@dataclass(frozen=True)
class AnalysisSettings:
    """The parameters of an Analyzer. Raises SettingsError for one that is not valid."""

    tokenizer: str | Callable[[str], list[str]] | None = parameter(
        default=None, check=_Tokenizer(("unicode", "word", "space", "char")), section="Analysis",
        help="Tokenizer: words of any language (unicode), words of two or more letters or digits "
        "(word), runs between white space (space), or characters (char).",
        notes='"unicode": NFKC case folding, then the words of UAX #29 that have a letter, a digit '
        "or an emoji; a full stop or colon between letters separates. "
        '"word": runs of two or more letters, digits and underscores, those of '
        r're.findall(r"(?u)\b\w\w+\b", text.lower()); "space": those of str.split(); "char": '
        "every character that is not white space; or a function from str to a list of str, which "
        "gets the unchanged text: slower. An index saves its name only, and must be opened with "
        "the function; other things with such an analyzer cannot be saved.",
        none=f"{INDEX_TOKENIZER} for an index, {FEATURES_TOKENIZER} for features and word vectors",
    )  # fmt: skip
    cjk: str = parameter(
        default="bigrams", check=Choice(("bigrams", "none", "words")), section="Analysis",
        help="Chinese, Japanese and Korean, and with unicode Thai, Lao, Khmer and Burmese: "
        "overlapping bigrams, as the tokenizer splits them (none), or words (Chinese; needs "
        "fastseq[chinese]).",
        notes="Of runs of Han and kana (together) and of Hangul, with the word tokenizer. "
        '"bigrams" are of characters, a single character being a term, and end the words around '
        'them; "words" segments Han and kana with rjieba, Hangul being bigrams; "none" treats '
        "them as any other letters. With the tokenizer unicode also of Thai, Lao, Khmer and "
        'Burmese, bigrams being of grapheme clusters; "none" then leaves the words of UAX #29, '
        "which are single characters of Han and these.",
    )  # fmt: skip
    lowercase: bool = parameter(
        default=True, check=Flag(), section="Analysis", flag="lowercase/keep-case",
        help="Lower-case the text.", notes="Unicode's full mapping, final sigma included.",
    )  # fmt: skip
    fold_accents: bool = parameter(
        default=False, check=Flag(), section="Analysis", help="Remove accents: café becomes cafe.",
        notes="Compatibility variants too: NFKD, combining marks dropped, the rest composed again "
        "and lower-cased: «ﬁ» becomes «fi», «が» «か».",
    )  # fmt: skip
    stopwords: str | tuple[str, ...] = parameter(
        default="none", check=Checked(check_stopwords), section="Analysis", metavar="S",
        help="Stop words: lucene, a language's list, or none.",
        notes='Compared after lower-casing and folding and before stemming. "lucene" has its 33 '
        "English words, a language is given by its English name (english: 191 function words); "
        "or a tuple of words. One-letter words of a language's list are not removed, but for "
        "Chinese, Japanese and Korean.",
    )  # fmt: skip
    stemmer: str = parameter(
        default="none", check=Checked(check_stemmer), section="Analysis", metavar="L",
        help="Snowball stemmer of a language, or none.",
        notes='One of PyStemmer\'s; "english" is Porter2.',
    )  # fmt: skip
    ngrams: tuple[int, int] = parameter(
        default=(1, 1), check=Span(_LONGEST_NGRAM), section="Analysis", metavar="1-2",
        help="Lengths of word n-grams.",
        notes="Sequences of terms joined by a space, after filtering.",
    )  # fmt: skip
    char_ngrams: tuple[int, int] | None = parameter(
        default=None, check=Span(_LONGEST_NGRAM), section="Analysis", metavar="3-5",
        help="Lengths of character n-grams of each word.", none="none",
        notes="Of each term padded with a space on both sides; a shorter padded term is one n-gram "
        "(scikit-learn's char_wb). Not together with ngrams.",
    )  # fmt: skip
    min_length: int | None = parameter(
        default=None, check=Whole(1), section="Analysis", none="the tokenizer's rule",
        help="Minimum token length in characters.",
        notes="Not of the bigrams and words made of scripts without spaces.",
    )  # fmt: skip
    max_length: int | None = parameter(
        default=None, check=Whole(1), section="Analysis", none="no maximum",
        help="Maximum token length in characters.",
        notes="Not of the bigrams and words made of scripts without spaces.",
    )  # fmt: skip
    on_invalid: str = parameter(
        default="error", check=Choice(("error", "replace")), section="Analysis",
        help="Text that is not UTF-8: an error, or replacement characters.",
    )  # fmt: skip

    normalization: str = parameter(
        default="none", check=Checked(check_normalization), section="Analysis", metavar="L",
        help="Normalisation of a language's spellings, or none.",
        notes="Before stems: English 's, French l', variants of Arabic letters, decimal digits and "
        "the like. Made for the tokenizer unicode: with word, apostrophes separate already. "
        "Turkish and Azerbaijani have I and İ as the capitals of ı and i, with unicode alone. "
        "Without a tokenizer it applies only where unicode is the default.",
    )  # fmt: skip

    @property
    def segments(self) -> bool:
        """Whether Chinese is cut into words."""
        return self.cjk == "words" and self.tokenizer in ("unicode", "word", None)

    def resolved(self, tokenizer: str) -> Self:
        """The same settings with the default tokenizer of an index or of features where none is
        set. Any other than `unicode` comes without normalisation."""
        if self.tokenizer is not None:
            return self
        normalization = self.normalization if tokenizer == "unicode" else "none"
        return replace(self, tokenizer=tokenizer, normalization=normalization)

    @property
    def has_ngrams(self) -> bool:
        """Whether terms are n-grams of words or characters."""
        return self.ngrams != (1, 1) or self.char_ngrams is not None

    @property
    def changes_words(self) -> bool:
        """Whether terms are words that may differ from those as written: of stems, or normalised
        after the text is split. N-grams of characters, or of two words and more, are no words."""
        if self.char_ngrams is not None or self.ngrams[0] > 1:
            return False
        return self.stemmer != "none" or self.normalization in {*FIRST, *LAST}

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
