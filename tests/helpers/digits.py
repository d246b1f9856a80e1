"""A mixture of 16 Gaussians fitted to scikit-learn's digits: a prior with a face whose posteriors are known."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from resolvent.priors import GaussianMixture, GaussianPrior

F64 = torch.float64


class Digits(NamedTuple):
    """Standardised images ``(n, 1, 8, 8)``; their standard deviation in digit units; two priors fitted to the first."""

    fitted: Tensor
    held_out: Tensor
    unit: float
    mixture: GaussianMixture
    gaussian: GaussianPrior
    covariance: Tensor


def load():
    """All of it, the same every time."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    from sklearn.mixture import GaussianMixture as Fit

    images = torch.as_tensor(datasets.load_digits().data, dtype=F64) / 16
    unit = float(images.std())
    images = (images - images.mean()) / unit
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    fitted, held_out = images[:1500], images[1500:]
    fit = Fit(16, covariance_type="full", reg_covar=1e-2, random_state=0, max_iter=200).fit(fitted.numpy())
    weights, means, covariances = (torch.as_tensor(v, dtype=F64) for v in (fit.weights_, fit.means_, fit.covariances_))
    covariance = torch.cov(fitted.mT) + 1e-2 * torch.eye(64, dtype=F64)
    return Digits(
        fitted.reshape(-1, 1, 8, 8), held_out.reshape(-1, 1, 8, 8), unit,
        GaussianMixture(weights, means.reshape(-1, 1, 8, 8), covariances),
        GaussianPrior.dense(fitted.mean(0).reshape(1, 8, 8), covariance), covariance,
    )  # fmt: skip
