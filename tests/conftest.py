"""What all tests share."""

from __future__ import annotations

import signal

# A shell that runs tests in the background has them ignore Ctrl-C, which some of them are about.
signal.signal(signal.SIGINT, signal.default_int_handler)
