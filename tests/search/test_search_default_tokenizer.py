"""Each consumer of an analyzer without a tokenizer has its own default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fastseq import (
    Analyzer,
    CountFeatures,
    FastText,
    FastTextClassifier,
    GloVe,
    Index,
    Phrases,
    Word2Vec,
    WordVectors,
)
from fastseq.estimator import BaseEstimator
from fastseq.vectors.expansion import Expander

DOCS = {
    "b": "The hepatitis B vaccine protects from hepatitis B.",
    "c": "There is no vaccine for hepatitis C.",
    "hindi": "हिन्दी में मात्राएँ शब्द का भाग हैं",
    "thai": "แมวชอบกินปลา",
    "accents": "un caffe\u0300 lungo",
    "wide": "ＦＵＬＬ　ＷＩＤＴＨ letters",
    "code": "node.js calls subprocess.Popen 3.14 times",
}
SHARED = Analyzer.for_language("french", min_length=1)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    table = pa.table({"id": list(DOCS), "text": list(DOCS.values())})
    return Index.build(table, tmp_path_factory.mktemp("default") / "index")


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hepatitis C vaccine", "c"),
        ("मात्राएँ", "hindi"),
        ("शब्द", "hindi"),
        ("กินปลา", "thai"),
        ("caffè", "accents"),
        ("CAFFE\u0300", "accents"),
        ("full width", "wide"),
        ("ｎｏｄｅ", "code"),
        ("popen", "code"),
        ("3.14", "code"),
    ],
)
def test_default_index_finds_words_as_readers_write_them(
    index: Index, query: str, expected: str
) -> None:
    assert index.search(query).ids[0][0] == expected


def test_manifest_of_a_default_index_names_the_tokenizer(index: Index, tmp_path: Path) -> None:
    saved = manifest(Path(index.path))["settings"]["analyzer"]
    assert saved["tokenizer"] == "unicode"
    assert "normalization" not in saved
    assert index.analyzer == Analyzer(tokenizer="unicode")
    word = Index.build(
        pa.table({"text": ["x"]}), tmp_path / "word", analyzer=Analyzer(tokenizer="word")
    )
    assert manifest(tmp_path / "word")["settings"]["analyzer"]["tokenizer"] == "word"
    assert Index.open(tmp_path / "word").analyzer == word.analyzer


def test_index_and_features_share_an_analyzer(tmp_path: Path) -> None:
    texts = ["l'arbre vert", "l'été a 3 mois"]
    built = Index.build(pa.table({"text": texts}), tmp_path / "index", analyzer=SHARED)
    assert built.analyzer == Analyzer.for_language("french", tokenizer="unicode", min_length=1)
    assert built.analyzer.normalization == "french"
    features = CountFeatures(analyzer=SHARED).fit(texts)
    word = Analyzer.for_language("french", tokenizer="word", min_length=1)
    assert word.normalization == "none"
    expected = CountFeatures(analyzer=word).fit(texts)
    assert features.vocabulary_ == expected.vocabulary_
    features.save(tmp_path / "features")
    assert manifest(tmp_path / "features")["settings"]["analyzer"] == word.to_dict()
    assert CountFeatures.load(tmp_path / "features").vocabulary_ == expected.vocabulary_
    assert SHARED.tokenizer is None


def test_features_without_an_analyzer_have_words() -> None:
    features = CountFeatures().fit(["a node.js", "C don't"])
    assert sorted(features.vocabulary_) == ["don", "js", "node"]
    assert CountFeatures().get_params()["tokenizer"] == "word"
    normalised = CountFeatures(normalization="german").fit(["schöne schoene"])
    assert sorted(normalised.vocabulary_) == ["schone"]


SMALL: dict[str, Any] = {"dimensions": 4, "epochs": 1, "min_count": 1, "threads": 1}
TEXTS = ["don't stop a cat", "a cat can't stop"] * 3
MODELS: dict[str, Any] = {
    "word2vec": Word2Vec,
    "glove": GloVe,
    "fasttext": FastText,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("analyzer", [None, Analyzer(), Analyzer(lowercase=False)], ids=repr)
def test_word_vectors_have_words(name: str, analyzer: Analyzer | None, tmp_path: Path) -> None:
    model = MODELS[name](**SMALL, analyzer=analyzer).fit(TEXTS)
    assert set(model.vectors_.words) == {"don", "stop", "cat", "can"}
    model.save(tmp_path / name)
    saved = manifest(tmp_path / name)["settings"]["analyzer"]
    assert saved == (analyzer or Analyzer()).resolved("word").to_dict()


@pytest.mark.parametrize("analyzer", [None, Analyzer(stopwords=("stop",))], ids=repr)
def test_classifier_has_words(analyzer: Analyzer | None, tmp_path: Path) -> None:
    model = FastTextClassifier(**SMALL, analyzer=analyzer).fit(TEXTS, ["x", "y"] * 3)
    model.save(tmp_path / "model")
    loaded = FastTextClassifier.load(tmp_path / "model")
    query = ["a don't", "can't stop cats"]
    assert loaded.predict_proba(query).tolist() == model.predict_proba(query).tolist()
    if analyzer is not None:
        assert loaded.analyzer == analyzer.resolved("word")


def test_phrases_and_expansion_have_words() -> None:
    phrases = Phrases(min_count=1, threshold=0, analyzer=Analyzer()).fit(["don't"] * 5 + ["we don"])
    assert phrases.phrases_ == []
    vectors = WordVectors(["don", "can"], [[1.0, 0.0], [1.0, 0.1]])
    for analyzer in (None, Analyzer()):
        assert vectors.words_of("a don't", analyzer) == ["don"]
        assert vectors.document_vectors(["a don't"], analyzer, method="mean").tolist() == [[1, 0]]
        assert Expander(vectors, 1, analyzer=analyzer)(["don't"])[0].keys() == {"can"}


def test_every_estimator_with_an_analyzer_is_here() -> None:
    def below(kind: type[Any]) -> list[type[Any]]:
        return [kind, *(found for each in kind.__subclasses__() for found in below(each))]

    import fastseq

    public = {getattr(fastseq, name) for name in fastseq.__all__}
    found = {
        kind.__name__
        for kind in below(BaseEstimator)
        if kind in public and "analyzer" in kind._parameters
    }
    assert found == {
        "BM25Features", "CountFeatures", "TfidfFeatures", "FastText", "FastTextClassifier", "GloVe",
        "Phrases", "Word2Vec",
    }  # fmt: skip
