"""What `import fastseq` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastseq


@pytest.mark.parametrize("name", fastseq.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(fastseq, name) is not None
    assert name in dir(fastseq)


@pytest.mark.parametrize("name", fastseq.nn.__all__)
def test_every_name_of_nn_exists(name: str) -> None:
    assert getattr(fastseq.nn, name) is not None
    assert name in dir(fastseq.nn)


def test_subpackages_need_no_second_import() -> None:
    code = "import fastseq; print(fastseq.nn.LSTM.__name__, fastseq.models.load)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("LSTM")
    assert {"nn", "models"} <= set(dir(fastseq))


def test_unknown_names_raise_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'strange'"):
        _ = fastseq.strange
