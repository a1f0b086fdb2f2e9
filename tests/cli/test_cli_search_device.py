"""fastseq search --device: errors where the device or its package is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastseq import devices
from fastseq.devices import cuda_problem
from fastseq.kernels.cuda.runtime import availability
from tests.cli.conftest import Run, Write

SAID = "no usable NVIDIA GPU: CUDA driver library cannot be found"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", lambda: SAID)


@pytest.fixture
def queries(write: Write) -> Path:
    return write("queries.parquet", query_id=["1", "2"], text=["water", "house"])


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("output", [(), ("-o", "run.trec")])
def test_missing_gpu_is_a_one_line_error(
    run: Run, bilingual: Path, queries: Path, output: tuple[str, ...]
) -> None:
    ran = run("search", "-i", bilingual, "--queries", queries, "--device", "cuda", *output)
    assert ran.code == 1
    assert ran.error == f"Error: {SAID}"
    assert ran.out == ""
    assert not Path("run.trec").exists()


@pytest.mark.usefixtures("no_gpu")
def test_device_cpu_runs_without_a_gpu(run: Run, bilingual: Path, queries: Path) -> None:
    plain = run("search", "-i", bilingual, "--queries", queries)
    named = run("search", "-i", bilingual, "--queries", queries, "--device", "cpu")
    assert plain.code == named.code == 0
    assert plain.out == named.out != ""


def test_device_requires_queries(run: Run, bilingual: Path) -> None:
    ran = run("search", "-i", bilingual, "water", "--device", "cuda")
    assert ran.code == 2
    assert ran.error == "Error: --device requires --queries FILE (see fastseq search --help)"


def test_unknown_device_is_a_usage_error(run: Run, bilingual: Path, queries: Path) -> None:
    ran = run("search", "-i", bilingual, "--queries", queries, "--device", "tpu")
    assert ran.code == 2
    assert "'tpu'" in ran.error
    assert "cuda" in ran.error


def test_missing_cuda_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability.config, "ENABLE_CUDASIM", False)
    monkeypatch.setattr(availability, "find_spec", lambda name: None)
    assert cuda_problem() == 'CUDA needs the package numba-cuda; pip install "fastseq[cuda]"'
