"""Tag entities with a bidirectional LSTM, character features and a conditional random field."""

from __future__ import annotations

import itertools

import fastseq

PEOPLE = ["Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra"]
PLACES = ["London", "New York", "Rotterdam", "Cambridge"]
TEMPLATES = ["{p} was born in {l} .", "In {l} , {p} wrote a letter .", "{p} moved to {l} in May ."]


def example(template: str, person: str, place: str) -> tuple[list[str], list[str]]:
    """The tokens of a sentence and their IOB2 tags."""
    tokens, tags = [], []
    for word in template.split():
        kind, text = {"{p}": ("PER", person), "{l}": ("LOC", place)}.get(word, ("", word))
        for at, token in enumerate(text.split()):
            tokens.append(token)
            tags.append(f"{'I' if at else 'B'}-{kind}" if kind else "O")
    return tokens, tags


rows = [example(*parts) for parts in itertools.product(TEMPLATES, PEOPLE, PLACES)]
tokens, tags = [row[0] for row in rows], [row[1] for row in rows]

model = fastseq.SequenceTagger(
    embedding=32, hidden=32, bidirectional=True, chars=True, crf=True,
    epochs=8, batch_size=4, learning_rate=0.01, seed=1,
)  # fmt: skip
model.fit(tokens, tags)
sentence = ["Grace", "Hopper", "wrote", "from", "London", "."]
for token, tag in zip(sentence, model.predict([sentence])[0], strict=True):
    print(f"{token:10} {tag}")
