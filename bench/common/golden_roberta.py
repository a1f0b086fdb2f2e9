"""What Hugging Face's transformers and tokenizers compute for small RoBERTas; for bench.golden.

For each type a masked-language model with random weights and a tokenizer learned from a few texts:
the files of a checkpoint, and of some texts the ids, the spans in code points, the rows of the last
layer, and SPLADE's weights of words.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from transformers import (
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from bench.common.golden import spec

Arrays = dict[str, np.ndarray]
TEXTS = [
    "The cat sat on the mat.", "A dog ran, the café closed!", "naïve  ΑΒΓ 東京 dogs",
    "cats and dogs and cats on mats", "x",
]  # fmt: skip
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WORDS = 300  # at most
SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "max_position_embeddings": 40, "layer_norm_eps": 1e-5, "pad_token_id": 1,
}  # fmt: skip
MODELS = {
    "roberta": (RobertaConfig, RobertaForMaskedLM, 1),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM, 1),
}


def roberta() -> Arrays:
    """{"type/what": array}; "type/config" and "type/tokenizer" are JSON, "p NAME" the weights."""
    found: Arrays = {"spec": spec({"texts": TEXTS})}
    for number, (name, (make_config, make_model, types)) in enumerate(MODELS.items()):
        tokenizer = made_tokenizer(name)
        torch.manual_seed(number)
        config = make_config(
            vocab_size=tokenizer.get_vocab_size(), type_vocab_size=types, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, attn_implementation="eager", **SIZES,
        )  # fmt: skip
        model = make_model(config).eval()
        with torch.no_grad():
            for value in model.parameters():
                value += 0.2 * torch.randn_like(value)
        rows, words, ids, spans, counts = [], [], [], [], []
        for text in TEXTS:
            encoding = tokenizer.encode(text)
            with torch.inference_mode():
                output = model(torch.tensor([encoding.ids]), output_hidden_states=True)
            rows.append(output.hidden_states[-1][0].numpy())
            words.append(torch.log1p(torch.relu(output.logits[0])).max(0).values.numpy())
            ids += encoding.ids
            spans += encoding.offsets[1:-1]
            counts.append(len(encoding.ids))
        settings = {"model_type": name, "vocab_size": config.vocab_size, **SIZES}
        settings |= {"type_vocab_size": types, "hidden_act": config.hidden_act}
        results: dict[str, Any] = {
            "config": np.array(json.dumps(settings)), "tokenizer": np.array(tokenizer.to_str()),
            "rows": np.concatenate(rows), "words": np.stack(words),
            "ids": np.array(ids, np.int32), "spans": np.array(spans, np.int64),
            "counts": np.array(counts, np.int64),
        }  # fmt: skip
        results |= {
            f"p {parameter}": value.detach().numpy()
            for parameter, value in model.named_parameters(remove_duplicate=False)
            if not parameter.startswith("lm_head.decoder")  # tied, as in a checkpoint
        }
        found |= {f"{name}/{what}": value for what, value in results.items()}
    return found


def made_tokenizer(name: str) -> Any:
    """Byte-level BPE, as of RoBERTa, or a unigram model, as of XLM-R."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    around = [("<s>", 0), ("</s>", 2)]
    if name == "roberta":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=WORDS, special_tokens=SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(TEXTS, trainer)
        tokenizer.post_processor = processors.RobertaProcessing(
            around[1], around[0], add_prefix_space=False
        )
        return tokenizer
    # a trainer of unigrams does not give the same twice
    pieces = ["▁", "▁The", "▁the", "▁cat", "s", "▁on", "▁and", "at", "▁do", "gs", "▁ran", "東"]
    letters = sorted({letter for text in TEXTS[:2] for letter in text} - {" ", *pieces})
    scored = [*((token, 0.0) for token in SPECIALS)]
    scored += [(piece, -2.0 - n / 8) for n, piece in enumerate([*pieces, *letters])]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=SPECIALS.index("<unk>")))
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=around
    )
    return tokenizer
