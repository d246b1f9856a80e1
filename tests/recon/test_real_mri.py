"""Two real brains: what the scans did not measure is predicted, and the truth approached."""

import numpy as np
import pytest
import torch

from resolvent.operators import CartesianMRI, poisson_disc, sensitivity_maps
from resolvent.priors import L1, TV, InWavelets, Tikhonov
from resolvent.recon import FISTA, RelativeChange, psnr

pytest.importorskip("sigpy")
pytestmark = pytest.mark.slow


def solved(prior, y, physics):
    return FISTA(prior, max_iter=150, stop=RelativeChange(1e-3))(y, physics)


def test_sparse_priors_predict_samples_left_out(shared_data):
    """A tenth of the samples outside the calibration block is left out; regularised images foretell them."""
    y = torch.from_numpy(np.load(shared_data / "mri" / "sigpy_cartesian_ksp.npy"))
    mask = (y.abs().sum(0) > 0).float()
    physics = CartesianMRI(mask, sensitivity_maps(y))
    y = y[None] / physics.A_adjoint(y[None]).abs().max()
    kept = (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) > 0.1).float()
    kept[103:127, 78:102] = 1
    out = mask * (1 - kept)
    partial = CartesianMRI(mask * kept, physics.sensitivity_maps)

    def missed(x):
        """Error of the predicted samples over their size."""
        error = out * (CartesianMRI(out, physics.sensitivity_maps).A(x) - y)
        return float(torch.linalg.vector_norm(error) / torch.linalg.vector_norm(out * y))

    minimal = missed(solved(Tikhonov(1e-3), kept * y, partial))
    wavelet = missed(solved(InWavelets(L1(2e-3)), kept * y, partial))
    variation = missed(solved(TV(2e-3, iterations=5), kept * y, partial))
    assert minimal < 0.95, "the coils alone foretell something"
    assert wavelet < minimal - 0.1 and variation < minimal - 0.1


def test_retrospective_acceleration_of_the_moco_slice(shared_data):
    """R = 4 with the weights that the other mask of the benchmark chose."""
    images = torch.from_numpy(np.load(shared_data / "mri" / "moco_brain_slice_256x216x7.npz")["arr_0"]).permute(2, 0, 1)
    images = (images / torch.linalg.vector_norm(images, dim=0).max()).to(torch.complex64)
    truth = torch.linalg.vector_norm(images, dim=0)[None, None]
    full = CartesianMRI(torch.ones(256, 216), channels=7).A(images[None])
    mask = poisson_disc((256, 216), 4)
    y = mask * (full + 0.005 * torch.randn(full.shape, dtype=full.dtype))
    physics = CartesianMRI(mask, sensitivity_maps(y[0]))
    filled = torch.linalg.vector_norm(CartesianMRI(mask, channels=7).A_adjoint(y), dim=1, keepdim=True)
    zero, sense, wavelet = (
        float(psnr(x.abs(), truth))
        for x in (filled, solved(Tikhonov(0.01), y, physics), solved(InWavelets(L1(1e-3)), y, physics))
    )
    assert sense > zero + 1
    assert wavelet > sense + 1
