"""The oracles, which the benchmarks share."""

import _quadratic
import _smoothed_tv
import pytest


@pytest.fixture(scope="session")
def quadratic():
    return _quadratic


@pytest.fixture(scope="session")
def tv():
    return _smoothed_tv


@pytest.fixture(scope="session")
def denoising(tv, shared_data):
    """Four photographs of Set12."""
    return tv.Denoising(tv.photographs(shared_data / "natural" / "set12"))
