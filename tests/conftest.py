"""Shared set-up: two threads in all, one seed per test, the real data where they are, the accelerator where it is."""

import os
from pathlib import Path

import pytest
import torch


def pytest_configure(config):
    threads = max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the programs that tests start
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same random numbers whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real measurements beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real measurements not found at {folder}")
    return folder


@pytest.fixture
def one_thread():
    """Sums over threads may differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
