"""The records of delimited text (CSV, TSV): where a block of bytes can be cut."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit

# states between two bytes
FIELD_START, IN_FIELD, IN_QUOTES, AFTER_QUOTE, RECORD_START, AFTER_CR = range(6)
NO_QUOTES = 256  # as the quote: none

_LF, _CR = 10, 13


@jit
def last_record_end(state, data, delimiter, quote):
    """The end of the last record that ends in data (uint8[n]), after its line feed or carriage
    return; 0 for none. A carriage return that is the last byte is no end: a line feed may follow.

    state      int64[2]: the state before the first byte, at first RECORD_START, and the number of
               empty lines before; on return, after the last byte
    delimiter  the byte between fields
    quote      the byte around fields, doubled inside of them; NO_QUOTES: none

    As in RFC 4180, only a quote at the start of a field begins a quoted one; what follows its
    closing quote belongs to the field.
    """
    now = state[0]
    end = 0
    for i in range(len(data)):
        byte = np.int64(data[i])
        if now == IN_QUOTES:
            if byte == quote:
                now = AFTER_QUOTE
        elif byte == quote and now != IN_FIELD:
            now = IN_QUOTES
        elif byte == delimiter:
            now = FIELD_START
        elif byte == _LF:
            state[1] += now == RECORD_START
            now = RECORD_START
            end = i + 1
        elif byte == _CR:
            state[1] += now in (RECORD_START, AFTER_CR)
            now = AFTER_CR
            if i + 1 < len(data):
                end = i + 1
        else:
            now = IN_FIELD
    state[0] = now
    return end
