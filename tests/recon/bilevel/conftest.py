"""The oracles, which the benchmarks share."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def oracle(name):
    """A benchmark's helper as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def quadratic():
    return oracle("_quadratic")


@pytest.fixture(scope="session")
def tv():
    return oracle("_smoothed_tv")


@pytest.fixture(scope="session")
def denoising(tv, shared_data):
    """Four photographs of Set12."""
    return tv.Denoising(tv.photographs(shared_data / "natural" / "set12"))
