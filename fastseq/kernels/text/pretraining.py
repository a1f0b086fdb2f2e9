"""The data of BERT's pretraining: sentences, pairs of segments, and masks.

As create_pretraining_data.py of Google's BERT (Devlin et al. 2019, sections 3.1 and A.1), but
without storing sequences: pairs are ranges of the encoded corpus, and masks are drawn while a batch
is copied. Random numbers depend on a key and the number of the document, or of the sequence, so
neither threads nor the batch change them.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, jit
from fastseq.kernels.core.rng import draw, draw_below

# kinds of pieces: what ends a sentence before a space, or anywhere; what may follow it; a piece
# within a word
END, WIDE_END, CLOSING, WITHIN = 1, 2, 3, 4

_LINE_BREAK = 10
_TRIES = 10  # documents that are drawn until one is another
_TENTHS = 10  # of masked tokens: 8 are replaced by the mask, 1 by a random word
_MASKED, _KEPT = 8, 9


@jit
def sentence_ends(ends, ids, starts, stops, offsets, data, text_offsets, kinds, most):
    """Mark the last piece of each sentence.

    ends          uint8[n]      out: 1 or 0; that of a text's last piece is 1
    ids           int32[n]      pieces of texts, text i having offsets[i]:offsets[i + 1]
    starts, stops int64[n]      bytes of each piece in its text
    data          uint8[·]      the texts; text i begins at text_offsets[i]
    kinds         uint8[V]      of the pieces
    most          pieces of a sentence, after which it is cut at the next word
    """
    for text in range(len(offsets) - 1):
        last = offsets[text + 1] - 1
        base = text_offsets[text]
        ended = 0  # kind of the last piece that was not CLOSING
        length = 0
        for i in range(offsets[text], last + 1):
            kind = kinds[ids[i]]
            length += 1
            if kind != CLOSING:
                ended = kind
            is_end = i == last
            if not is_end:
                following = kinds[ids[i + 1]]
                if starts[i + 1] > stops[i]:
                    is_end = ended in (END, WIDE_END)
                    for place in range(base + stops[i], base + starts[i + 1]):
                        is_end = is_end or data[place] == _LINE_BREAK
                elif ended == WIDE_END:
                    is_end = following == 0
                is_end = is_end or (length >= most and following != WITHIN)
            ends[i] = is_end
            if is_end:
                length = 0
                ended = 0


@helper
def _seed(state, key, number):
    """Set the generator's state from a key and a number."""
    state[0] = key + np.uint64(number)
    state[0] = draw(state)


@jit
def pair_segments(
    firsts, seconds, lengths, labels, segments, documents, tokens, short, key, state, first, last
):
    """Choose pairs of segments A and B of the documents first to last - 1; returns their number.

    A is some consecutive sentences of a document; B those that follow, or with probability 0.5, and
    where none follow, sentences of another document. Together they have `tokens` tokens at most,
    and with a probability of `short` / 2³⁰ fewer.

    firsts, seconds  int64[P]     out: the first tokens of A and B in the corpus; P is at least the
                                  number of sentences of the documents
    lengths          int32[P, 2]  out: their tokens, 1 or more
    labels           int32[P]     out: 0 where B follows A, 1 where it is random
    segments         int64[S + 1] the first token of each sentence
    documents        int64[D + 1] the first sentence of each document
    state            uint64[1]    of the generator
    """
    count = 0
    D = len(documents) - 1
    for document in range(first, last):
        _seed(state, key, document)
        begin, end = documents[document], documents[document + 1]
        target = _target(state, tokens, short)
        i = begin  # the first sentence of the chunk
        j = begin  # the one after its last
        while i < end:
            j += 1
            if j < end and segments[j] - segments[i] < target:
                continue
            middle = i + 1
            if j - i >= 2:
                middle += draw_below(state, j - i - 1)
            a_start, a_stop = segments[i], segments[middle]
            is_random = j - i == 1 or draw_below(state, 2) == 0
            if is_random:
                other = document
                for _ in range(_TRIES):
                    other = draw_below(state, D)
                    if other != document:
                        break
                stop = documents[other + 1]
                b = documents[other] + draw_below(state, stop - documents[other])
                b_start = segments[b]
                b += 1
                while b < stop and segments[b] - b_start < target - (a_stop - a_start):
                    b += 1
                b_stop = segments[b]
                j = middle  # sentences that are not used remain for the next chunk
            else:
                b_start, b_stop = a_stop, segments[j]
            while a_stop - a_start + b_stop - b_start > tokens:
                front = draw_below(state, 2) == 0
                if a_stop - a_start > b_stop - b_start:
                    a_start += front
                    a_stop -= not front
                else:
                    b_start += front
                    b_stop -= not front
            firsts[count], seconds[count] = a_start, b_start
            lengths[count, 0], lengths[count, 1] = a_stop - a_start, b_stop - b_start
            labels[count] = is_random
            count += 1
            i = j
    return count


@helper
def _target(state, tokens, short):
    """The tokens that a document's pairs aim at."""
    if draw_below(state, 1 << 30) < short:
        return 2 + draw_below(state, tokens - 1)
    return np.int64(tokens)


@jit
def masked_batch(
    ids, types, targets, offsets, numbers, firsts, seconds, lengths, corpus, kinds, begin, end,
    mask, ratio, most, whole_words, key, state, scratch,
):  # fmt: skip
    """Copy pairs as [CLS] A [SEP] B [SEP], and mask some of their tokens.

    max(1, round(ratio n)) of a sequence's n tokens are chosen, `most` at most and never [CLS] or
    [SEP]: of these 80 % become the mask, 10 % a random token, 10 % stay.

    ids, types, targets  int32[N]      out: tokens, 0 for A and 1 for B, and the token that was at a
                                       chosen place, else -1
    offsets              int64[B + 1]  of the sequences, lengths[b, 0] + lengths[b, 1] + 3 apart
    numbers              int64[B]      of the sequences in the epoch, for the random numbers
    firsts, seconds      int64[B]
    lengths              int32[B, 2]
    corpus               int32[·]      tokens of the corpus
    kinds                uint8[V]      of the pieces
    whole_words          all pieces of a word are chosen, or none; a word with more pieces than are
                         still to be chosen is left out
    state                uint64[1]     of the generator
    scratch              int32[2, L]   L at least the tokens of a sequence
    """
    V = len(kinds)
    for b in range(len(numbers)):
        _seed(state, key, numbers[b])
        n = offsets[b + 1] - offsets[b]
        here = offsets[b]
        ids[here] = begin
        types[here] = 0
        targets[here : here + n] = -1
        words = 0  # to choose from
        place = here + 1
        for part in range(2):
            start = firsts[b] if part == 0 else seconds[b]
            for i in range(lengths[b, part]):
                token = corpus[start + i]
                if i == 0 or not whole_words or kinds[token] != WITHIN:
                    scratch[0, words] = place
                    scratch[1, words] = 0
                    words += 1
                scratch[1, words - 1] += 1
                ids[place] = token
                types[place] = part
                place += 1
            ids[place] = end
            types[place] = part
            place += 1
        left = min(most, max(1, np.int64(np.rint(ratio * n))))
        for word in range(words):
            if left == 0:
                break
            other = word + draw_below(state, words - word)
            for row in range(2):
                kept = scratch[row, word]
                scratch[row, word] = scratch[row, other]
                scratch[row, other] = kept
            size = scratch[1, word]
            if size > left:
                continue
            left -= size
            for place in range(scratch[0, word], scratch[0, word] + size):
                targets[place] = ids[place]
                tenth = draw_below(state, _TENTHS)
                if tenth < _MASKED:
                    ids[place] = mask
                elif tenth == _KEPT:
                    ids[place] = draw_below(state, V)
