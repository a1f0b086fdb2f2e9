"""RoBERTa and XLM-R checkpoints against transformers (bench/golden.py: the file)."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fastseq.errors import FormatError, MissingExtraError
from fastseq.models.bert.checkpoint import read_checkpoint
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.encoding import TextEncoder
from fastseq.models.bert.finetuning import BertClassifier
from fastseq.models.bert.sparse import SparseEncoder

FILE = Path(__file__).resolve().parents[1] / "golden" / "transformer" / "roberta.npz"
GOLDEN = dict(np.load(FILE))
TEXTS = json.loads(str(GOLDEN["spec"]))["texts"]
KINDS = ("roberta", "xlm-roberta")


def checkpoint(path: Path, kind: str) -> dict[str, np.ndarray]:
    """Write the folder; what was computed."""
    golden = {
        name.partition("/")[2]: array
        for name, array in GOLDEN.items()
        if name.startswith(f"{kind}/")
    }
    path.mkdir()
    (path / "config.json").write_text(str(golden["config"]))
    (path / "tokenizer.json").write_text(str(golden["tokenizer"]), "utf-8")
    weights = {name[2:]: array for name, array in golden.items() if name.startswith("p ")}
    save_file(weights, path / "model.safetensors")
    return golden


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_match_transformers(tmp_path: Path, kind: str) -> None:
    golden = checkpoint(tmp_path / "m", kind)
    encoder = TextEncoder.load(tmp_path / "m")
    assert encoder.max_length == 38  # 40 positions, of which the first two are of no token
    offsets = np.concatenate([[0], np.cumsum(golden["counts"])])
    inputs = encoder.tokenizer.join(encoder.tokenizer.encode(TEXTS))
    np.testing.assert_array_equal(inputs.ids, golden["ids"])
    means = [golden["rows"][a:b].mean(0) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(encoder.encode(TEXTS), means, rtol=0, atol=2e-5)
    found = encoder.encode_tokens(TEXTS)
    assert isinstance(found, list)
    np.testing.assert_array_equal(np.concatenate([each.spans for each in found]), golden["spans"])
    for each, a, b in zip(found, offsets, offsets[1:], strict=False):
        np.testing.assert_allclose(each.vectors, golden["rows"][a + 1 : b - 1], atol=2e-5)
    np.testing.assert_array_equal(
        encoder.encode(TEXTS[1]), TextEncoder.load(tmp_path / "m", threads=1).encode(TEXTS)[1]
    )

    sparse = SparseEncoder.load(tmp_path / "m")
    for terms, weights in zip(sparse.encode(TEXTS), golden["words"], strict=True):
        names = sparse.tokenizer.words(range(len(weights)))
        expected = {
            name: weight for name, weight in zip(names, weights, strict=True) if weight > 1e-5
        }
        assert {k: v for k, v in terms.items() if v > 1e-5} == pytest.approx(expected, abs=1e-5)  # type: ignore[attr-defined]

    # settings survive a round trip
    config = read_checkpoint(tmp_path / "m").config
    assert BertConfig.from_dict(config.to_dict(), "here") == config


def test_wrong_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(tmp_path / "m", "roberta")
    config = json.loads((tmp_path / "m" / "config.json").read_text())

    def written(**changes: object) -> Path:
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, **changes}))
        return tmp_path / "m"

    with pytest.raises(FormatError, match="type 'electra', expected 'bert', 'roberta'"):
        TextEncoder.load(written(model_type="electra"))
    with pytest.raises(FormatError, match="pad_token_id is -1"):
        TextEncoder.load(written(pad_token_id=-1))
    with pytest.raises(FormatError, match="max_position_embeddings is 40, expected more than 51"):
        TextEncoder.load(written(pad_token_id=50))
    path = written()
    with pytest.raises(FormatError, match=r"tokenizer.json: its model is 'BPE'"):
        BertClassifier(base=path).fit(["a", "b"], [0, 1])
    with monkeypatch.context() as changed:
        changed.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(MissingExtraError, match=r"fastseq\[tokenizers\]"):
            TextEncoder.load(path)
    tokenizer = json.loads((path / "tokenizer.json").read_text("utf-8"))
    (path / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    with pytest.raises(FormatError, match="special tokens of a text are none"):
        TextEncoder.load(path)
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(FormatError, match=r"tokenizer.json: not a tokenizer"):
        TextEncoder.load(path)
    (path / "tokenizer.json").unlink()
    with pytest.raises(FormatError, match=r"has no tokenizer.json"):
        TextEncoder.load(path)
