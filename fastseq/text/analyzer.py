"""The analyzer: the settings that turn text into terms, as one small frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from fastseq.errors import FormatError, SettingsError
from fastseq.estimator import describe_parameters, plain
from fastseq.settings import one_of
from fastseq.text import language as packages
from fastseq.text.normalising import LANGUAGES
from fastseq.text.settings import INDEX_TOKENIZER, AnalysisSettings
from fastseq.text.unicode_tables import unicode_tables
from fastseq.text.word_tables import unicode_version
from fastseq.types import Texts

_FUNCTION = "function"  # the name of a function, among saved settings
_STOP_WORDS = "stop-words"


@describe_parameters
class Analyzer(AnalysisSettings):
    """How text becomes terms. Equal settings give equal terms under every Python.

    Without a tokenizer, an index, `tokens` and `to_dict` use `unicode`, features and word vectors
    `word`.

    Raises SettingsError for a parameter that is not valid.
    """

    @classmethod
    def for_language(cls, language: str, **settings: Any) -> Analyzer:
        """An analyzer with a language's stop words and stemmer, or the one of them that exists, and
        its normalisation, which without a tokenizer applies only where `unicode` is the default.

        language : its English name
        settings : other parameters; those given here take precedence

        Raises SettingsError for a language that has none of them, or a normalisation only where the
        tokenizer is another.
        """
        lists, stems = packages.stopword_languages(), packages.stemmers()
        rules = LANGUAGES if settings.get("tokenizer") in ("unicode", None) else ()
        known = {*lists, *stems, *rules}
        if isinstance(language, str) and language in LANGUAGES and language not in known:
            raise SettingsError(
                f'language {language!r} has a normalisation only, which needs tokenizer="unicode"'
            )
        one_of("language", language, sorted(known))
        found = {
            "stopwords": language if language in lists else "none",
            "stemmer": language if language in stems else "none",
        }
        if language in rules:
            found["normalization"] = language
        return cls(**{**found, **settings})

    def tokens(self, text: str) -> list[str]:
        """The terms of one text, in order; for inspection, not for speed."""
        from fastseq.text.lexicon import Lexicon

        if not isinstance(text, str):
            raise SettingsError(f"text must be a string, not {text!r}")
        lexicon = Lexicon(self)
        ids = lexicon.encode(Texts.from_strings([text])).values.tolist()
        terms = lexicon.terms().to_strings()
        return [terms[i] for i in ids]

    def to_dict(self, functions: bool = False) -> dict[str, Any]:
        """The settings as JSON values, with the tokenizer's name, and the version of the Unicode
        tables.

        functions : whether the tokenizer may be a Python function, of which only the name is
            saved, for display: whoever reads the settings passes the function

        Raises SettingsError for a tokenizer that is a function, unless `functions`.
        """
        if callable(self.tokenizer) and not functions:
            raise SettingsError("an analyzer whose tokenizer is a Python function cannot be saved")
        used = self.resolved(INDEX_TOKENIZER)
        values = {field.name: getattr(used, field.name) for field in fields(used)}
        if callable(used.tokenizer):
            values["tokenizer"] = {_FUNCTION: name_of(used.tokenizer)}
        out = {name: plain(value) for name, value in values.items()}
        if used.normalization == "none":  # as earlier versions wrote it
            del out["normalization"]
        out["unicode"] = _unicode_version(used.tokenizer)
        found = used._fingerprints()
        return {**out, "packages": found} if found else out

    @classmethod
    def from_dict(
        cls, saved: Mapping[str, Any], tokenizer: Callable[[str], list[str]] | None = None
    ) -> Analyzer:
        """The analyzer that to_dict wrote.

        tokenizer : the function whose name was saved. Without it, the analyzer raises SettingsError
            when it is used

        Raises FormatError for settings that this version does not know or cannot honour,
        SettingsError for a function where the tokenizer is none.
        """
        if not isinstance(saved, Mapping):
            raise FormatError(f"the saved analyzer must be a dictionary, not {saved!r}")
        settings = dict(saved)
        named = settings.get("tokenizer")
        if isinstance(named, Mapping) and isinstance(named.get(_FUNCTION), str):
            settings["tokenizer"] = tokenizer or _MissingFunction(named[_FUNCTION])
        elif tokenizer is not None:
            raise SettingsError(f"a function was passed, but the tokenizer is {named!r}")
        version = settings.pop("unicode", None)
        ours = _unicode_version(settings.get("tokenizer"))
        if version != ours:
            raise FormatError(
                f"the analyzer was saved with Unicode tables {version!r}; "
                f"this version of fastseq has {ours!r}"
            )
        if settings.get("tokenizer") is None:
            raise FormatError("the saved analyzer names no tokenizer")
        fingerprints = settings.pop("packages", {})
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
        saved_with = fingerprints if isinstance(fingerprints, dict) else {}
        installed = analyzer._fingerprints()
        if _STOP_WORDS in installed and saved_with.get(_STOP_WORDS) != installed[_STOP_WORDS]:
            # version 0.1.0 took the package's list without changes
            words = packages.package_stopwords(str(analyzer.stopwords))
            if packages.stopwords_fingerprint(words) == saved_with.get(_STOP_WORDS):
                analyzer = replace(analyzer, stopwords=words)
                installed = {**installed, _STOP_WORDS: saved_with[_STOP_WORDS]}
        if fingerprints != installed:
            differs = [name for name in installed if saved_with.get(name) != installed[name]]
            raise FormatError(
                f"saved with another version of {' and '.join(differs) or 'fastseq'}, which takes "
                "words differently: build it again, or install that version"
            )
        return analyzer

    def _fingerprints(self) -> dict[str, Any]:
        """What differs where another version of a package analyses text differently."""
        found: dict[str, Any] = {}
        if self.stemmer != "none":
            found["PyStemmer"] = packages.stems_fingerprint(self.stemmer)
        if isinstance(self.stopwords, str) and self.stopwords not in ("none", "lucene"):
            words = packages.stopword_list(self.stopwords)
            found[_STOP_WORDS] = packages.stopwords_fingerprint(words)
        if self.segments:
            found["rjieba"] = packages.segmenter_version()
        return found


class _MissingFunction:
    """Stands for a tokenizer of which only the name is known."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self, text: str) -> list[str]:
        name = self.__qualname__
        raise SettingsError(
            f"this index was tokenised by the Python function {name}: it can be searched and added "
            f"to from Python only, with Index.open(path, tokenizer={name})"
        )


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, for display."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = getattr(function, "__module__", None)
    return name if module is None or isinstance(function, _MissingFunction) else f"{module}.{name}"


def _unicode_version(tokenizer: Any) -> str:
    """The version of the tables that a tokenizer reads."""
    return unicode_version() if tokenizer == "unicode" else unicode_tables().version
