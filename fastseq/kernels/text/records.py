"""The records of delimited text (CSV, TSV): where a block of bytes can be cut."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit

# states between two bytes of a record
FIELD_START, IN_FIELD, IN_QUOTES, AFTER_QUOTE = range(4)
NO_QUOTES = 256  # as the quote: none

_LF, _CR = 10, 13


@jit
def last_record_end(state, data, delimiter, quote):
    """The end of the last record that ends in data (uint8[n]), after its line feed or carriage
    return; 0 for none.

    state      int64[1]: the state before the first byte; on return, after the last
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
        elif byte in (_LF, _CR):
            now = FIELD_START
            end = i + 1
        else:
            now = IN_FIELD
    state[0] = now
    return end
