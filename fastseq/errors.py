"""Every error that fastseq raises on purpose.

The command line prints the message on one line and exits 1, so a message says what is wrong,
where (which file, which row), and what was expected.
"""

from __future__ import annotations


class FastseqError(Exception):
    """Base of every error below."""


class SettingsError(FastseqError, ValueError):
    """A setting is outside its range, or two settings contradict each other."""


class DataError(FastseqError, ValueError):
    """Input data are not what they should be: a missing column, a null id, a broken file."""


class FormatError(FastseqError):
    """A folder on disk is too old, too new, damaged, or not of the kind expected."""


class TrainingError(FastseqError):
    """Training cannot go on: its loss or gradients are no longer finite."""


class DeviceError(FastseqError):
    """The device asked for is not there, or nothing of this model runs on it."""


class NotFittedError(FastseqError):
    """An estimator was used before `fit`."""


class MissingExtraError(FastseqError, ImportError):
    """An optional package is needed; the message gives the `pip install` that brings it."""
