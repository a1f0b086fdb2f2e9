"""The encoder of an index with vectors, for the commands that search or change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastseq.errors import DataError, SettingsError, quoted

from .options import Common

if TYPE_CHECKING:
    from fastseq.models.bert.encoding import TextEncoder
    from fastseq.search.index import Index


def load_encoder(common: Common, path: Path | str) -> TextEncoder:
    """The encoder of a checkpoint."""
    from fastseq.models.bert.encoding import TextEncoder

    return TextEncoder.load(path, threads=common.threads)


def query_encoder(common: Common, index: Index, path: Path | None) -> TextEncoder:
    """The encoder of queries: that of the index, unless another path is given."""
    settings = index.dense
    if settings is None:
        raise SettingsError(
            f"{index.path}: the index has no vectors: build it with fastseq index --dense MODEL or "
            "--dense-column C"
        )
    if path is None and "column" in settings:
        raise click.UsageError(
            f"the vectors of the index are those of the column {quoted(settings['column'])}: "
            "--dense-model names the encoder of queries"
        )
    return load_encoder(common, path or _known(settings, "--dense-model"))


def vector_search(
    common: Common, index: Index, encoder: Path | None, exact: bool, fusion: Mapping[str, Any]
) -> Any:
    """The function that searches for the vectors of texts; with a fusion, by words too.

    encoder : as of `query_encoder`
    exact : as of `Index.search_dense`
    fusion : parameters of `Index.search_hybrid`, None for their defaults; all None: vectors alone
    """
    found = query_encoder(common, index, encoder)
    given = {name: value for name, value in fusion.items() if value is not None}
    if not given:
        return partial(index.search_dense, encoder=found, exact=exact)
    return partial(index.search_hybrid, encoder=found, exact=exact, **given)


def sparse_queries(
    common: Common, index: Index, path: Path, texts: Sequence[str]
) -> list[dict[str, float]]:
    """The terms with weights of queries, by a learned-sparse model."""
    from fastseq.models.bert.sparse import SparseEncoder

    if index.impacts_column is None:
        raise SettingsError(
            f"{index.path}: an index of texts: --sparse needs one built with --impacts, of the "
            "column that fastseq embed --sparse writes"
        )
    found = SparseEncoder.load(path, threads=common.threads).encode_query(list(texts))
    assert isinstance(found, list)
    return found


def document_encoder(common: Common, index: Index, path: Path | None) -> TextEncoder | None:
    """The encoder of documents that are added: that of the index, unless another path is given;
    None where they need none."""
    settings = index.dense
    if path is None and (settings is None or "column" in settings):
        return None
    return load_encoder(common, path or _known(settings or {}, "--dense"))


def _known(settings: dict[str, Any], option: str) -> Path:
    """The path of the model of an index. Raises DataError where it is not a folder."""
    path = Path(settings["model"])
    if not path.is_dir():
        raise DataError(f"{path}: the model of the index is not there: {option} names its folder")
    return path
