"""Train, test and ship a classifier: the folder that is saved is all that another machine needs."""

from __future__ import annotations

import tempfile

import fastseq

POSITIVE = ["a wonderful film", "great acting", "I loved it", "a joy to watch", "truly moving"]
NEGATIVE = ["a dull film", "terrible acting", "I hated it", "a pain to watch", "truly boring"]

texts = [f"{text} {end}" for end in ("", "indeed", "from start to end") for text in POSITIVE]
labels = ["positive"] * len(texts)
texts += [f"{text} {end}" for end in ("", "indeed", "from start to end") for text in NEGATIVE]
labels += ["negative"] * (len(texts) - len(labels))

model = fastseq.SequenceClassifier(
    embedding=16, hidden=16, bidirectional=True, epochs=15, batch_size=8, learning_rate=0.01, seed=1
)
model.fit(texts, labels)
print("accuracy on the training texts:", model.score(texts, labels))

with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/classifier")  # weights.safetensors, vocabulary, manifest; no pickle
    shipped = fastseq.SequenceClassifier.load(f"{folder}/classifier")
    for text in ("what a wonderful joy", "boring and dull"):
        probabilities = shipped.predict_proba([text])[0]
        print(text, "->", shipped.predict([text])[0], f"({probabilities.max():.2f})")
