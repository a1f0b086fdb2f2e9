"""Fitted features in a folder, and made again from what any file says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fastseq.errors import FormatError, SettingsError
from fastseq.features.base import Features, FittedState
from fastseq.features.kinds import KINDS
from fastseq.store.folder import Folder
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.types import Int64, Texts

KIND = "features"
VERSION = 1

_BYTES, _LENGTHS, _DF = "term_bytes", "term_lengths", "df"

F = TypeVar("F", bound=Features)


def save(features: Features, path: str | Path, overwrite: bool) -> None:
    """Features.save."""
    learned, settings = features.learned, features.fitted.settings()
    terms = learned.terms
    with FolderWriter(path, KIND, VERSION, overwrite) as writer:
        writer.array(_BYTES, terms.data[terms.offsets[0] : terms.offsets[-1]])
        writer.array(_LENGTHS, np.diff(terms.offsets))
        writer.array(_DF, learned.df)
        statistics = {"documents": learned.documents, "tokens": learned.tokens}
        writer.commit(settings, {**statistics, "terms": len(terms)})


def load(kind: type[F], path: str | Path) -> F:
    """Features.load, of a kind of features or of any."""
    folder = Folder.open(path, KIND, {VERSION})
    # copies: what was loaded must not hang on files that a later save removes
    data = np.array(folder.array(_BYTES, np.uint8))
    lengths = folder.array(_LENGTHS, np.int64)
    df = np.array(folder.array(_DF, np.int64))
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if lengths.min(initial=0) < 0 or offsets[-1] != len(data):
        raise FormatError(f"{path}: damaged: its terms do not fit their lengths")
    return restored(kind, folder.settings, folder.statistics, Texts(data, offsets), df, str(path))


def restored(
    kind: type[F],
    settings: Mapping[str, Any],
    statistics: Mapping[str, Any],
    terms: Texts,
    df: Int64,
    where: str,
    on_invalid: str | None = None,
) -> F:
    """Fitted features.

    Parameters
    ----------
    kind : the kind expected; Features for any
    settings : of Features.settings
    statistics : documents and tokens, as FittedState has them
    where : the file they were read from, for messages
    on_invalid : of the analyzer, instead of the saved one

    Raises FormatError for settings that are not these, or of another kind.
    """
    own = dict(settings)
    method = own.pop("method", None)
    fitting = {name: made for name, made in KINDS.items() if issubclass(made, kind)}
    if method not in fitting:
        raise FormatError(f"{where}: holds {method!r} features, expected {' or '.join(fitting)}")
    try:
        analyzer = Analyzer.from_dict(own["analyzer"])
        if on_invalid is not None:
            analyzer = replace(analyzer, on_invalid=on_invalid)
        made = fitting[method](**own | {"analyzer": analyzer})
        made.check()
        documents, tokens = int(statistics["documents"]), int(statistics["tokens"])
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise FormatError(f"{where}: its settings cannot be read: {error}") from None
    if not 0 < len(terms) == len(df) or df.min() < 1 or df.max() > documents or tokens < 1:
        raise FormatError(f"{where}: damaged: its counts do not fit each other")
    made.learn(FittedState(terms, df, documents, tokens))
    return made
