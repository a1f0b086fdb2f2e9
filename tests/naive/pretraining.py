"""The data of BERT's pretraining as Google's create_pretraining_data.py makes it."""

from __future__ import annotations

_64_BITS = (1 << 64) - 1


class Generator:
    """splitmix64, seeded by a key and a number."""

    def __init__(self, key: int, number: int) -> None:
        self.state = key + number & _64_BITS
        self.state = self.draw()

    def draw(self) -> int:
        self.state = z = self.state + 0x9E3779B97F4A7C15 & _64_BITS
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _64_BITS
        return z ^ z >> 31

    def below(self, n: int) -> int:
        return (self.draw() >> 32) * n >> 32


def pairs(
    documents: list[list[list[int]]], tokens: int, short: int, key: int
) -> list[tuple[list[int], list[int], int]]:
    """(A, B, whether B is random) of documents of segments of tokens; `short` of 2³⁰."""
    found = []
    for number, document in enumerate(documents):
        rng = Generator(key, number)
        target = tokens
        if rng.below(1 << 30) < short:
            target = 2 + rng.below(tokens - 1)
        chunk: list[list[int]] = []
        i = 0
        while i < len(document):
            chunk.append(document[i])
            if i == len(document) - 1 or sum(map(len, chunk)) >= target:
                a_end = 1 if len(chunk) < 2 else 1 + rng.below(len(chunk) - 1)
                a = [token for segment in chunk[:a_end] for token in segment]
                b: list[int] = []
                is_random = len(chunk) == 1 or rng.below(2) == 0
                if is_random:
                    for _ in range(10):
                        other = rng.below(len(documents))
                        if other != number:
                            break
                    wanted = target - len(a)
                    start = rng.below(len(documents[other]))
                    for segment in documents[other][start:]:
                        b += segment
                        if len(b) >= wanted:
                            break
                    i -= len(chunk) - a_end
                else:
                    b = [token for segment in chunk[a_end:] for token in segment]
                while len(a) + len(b) > tokens:
                    longer = a if len(a) > len(b) else b
                    if rng.below(2) == 0:
                        del longer[0]
                    else:
                        longer.pop()
                found.append((a, b, int(is_random)))
                chunk = []
            i += 1
    return found


def masked(
    a: list[int], b: list[int], number: int, within: set[int], words: int, ratio: float, most: int,
    whole_words: bool, key: int, begin: int, end: int, mask: int,
) -> tuple[list[int], list[int], list[int]]:  # fmt: skip
    """(ids, types, targets) of a pair; `within` are the pieces that do not begin a word."""
    rng = Generator(key, number)
    original = [begin, *a, end, *b, end]
    types = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    groups: list[list[int]] = []
    for first, part in ((1, a), (len(a) + 2, b)):
        for i, token in enumerate(part):
            if whole_words and i and token in within:
                groups[-1].append(first + i)
            else:
                groups.append([first + i])
    count = min(most, max(1, round(ratio * len(original))))
    ids, targets = list(original), [-1] * len(original)
    for i in range(len(groups)):
        if not count:
            break
        j = i + rng.below(len(groups) - i)
        groups[i], groups[j] = groups[j], groups[i]
        if len(groups[i]) > count:
            continue
        for place in groups[i]:
            count -= 1
            targets[place] = original[place]
            tenth = rng.below(10)
            if tenth < 8:
                ids[place] = mask
            elif tenth == 9:
                ids[place] = rng.below(words)
    return ids, types, targets
