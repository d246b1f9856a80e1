"""Real scans: a tissue-mimicking disk (plane wave, bandpass-sampled) and steel pins (full matrix capture)."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from scipy.ndimage import maximum_filter

from resolvent.datasets import analytic, demodulate
from resolvent.operators import FullMatrixCapture, PlaneWaveIQ
from resolvent.priors import L1
from resolvent.recon import FISTA, BackProjection, envelope, log_compress

F64 = torch.float64
RATE, CARRIER, START = 20e6 / 3, 5e6, 9.95e-6


class Disk(NamedTuple):
    physics: PlaneWaveIQ
    rf: np.ndarray
    bmode: torch.Tensor


@pytest.fixture(scope="module")
def disk(shared_data):
    folder = shared_data / "ultrasound"
    rf = loadmat(folder / "PWI_disk.mat")["RF"][..., 0].T
    bmode = loadmat(folder / "bmode_PWI_disk.mat")["I"][..., 0] / 255
    elements = 0.298e-3 * (torch.arange(128, dtype=F64) - 63.5)
    x, z = 1e-4 * torch.arange(-125, 126, dtype=F64), 1e-4 * torch.arange(100, 351, dtype=F64)
    physics = PlaneWaveIQ([0.0], elements, x, z, 334, RATE, CARRIER, START, 1480.0, f_number=1.1)
    return Disk(physics, rf, torch.from_numpy(bmode))


def iq(disk, bandwidth=0.15 * CARRIER):
    return demodulate(disk.rf, RATE, CARRIER, bandwidth, START)[None, None, None]


def likeness(disk, y):
    """Correlation of the 30 dB B-mode image with the published one, and its mean distance in grey levels."""
    image = log_compress(envelope(BackProjection()(y, disk.physics)), 30)[0, 0]
    correlation = torch.corrcoef(torch.stack([image.flatten(), disk.bmode.flatten()]))[0, 1]
    return float(correlation), 255 * float((image - disk.bmode).abs().mean())


def test_disk_is_the_published_bmode(disk):
    correlation, distance = likeness(disk, iq(disk))
    assert correlation > 0.98 and distance < 7


WRONG = {
    "conjugate": (lambda disk: iq(disk).conj(), CARRIER),
    "no rotation": (iq, 0.0),
    "no demodulation": (lambda disk: torch.tensor(disk.rf / 1.0)[None, None, None], 0.0),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_phases_make_another_image(disk, wrong):
    data, carrier = WRONG[wrong]
    physics = PlaneWaveIQ(**(disk.physics.geometry() | {"carrier_frequency": carrier}))
    assert likeness(disk._replace(physics=physics), data(disk))[0] < 0.6


def test_a_wider_band_or_a_narrower_aperture_is_worse(disk):
    assert likeness(disk, iq(disk, 2.4e6))[0] < 0.93
    narrow = PlaneWaveIQ(**(disk.physics.geometry() | {"f_number": 1.5}))
    assert likeness(disk._replace(physics=narrow), iq(disk))[0] < 0.95


# -- steel pins -------------------------------------------------------------------------------------
PINS = {  # (x, z) in mm: level in dB, widths at half maximum along z and x in mm
    (-9.5, 43.1): (0.0, 0.33, 0.81),
    (10.6, 38.1): (-1.8, 0.40, 0.90),
}


@pytest.fixture(scope="module")
def pins(shared_data):
    """RF ``(32, 32, 1750)``: 32 elements 1 mm apart, 50 MHz, record from 40 us on, in water."""
    cells = loadmat(shared_data / "ultrasound" / "synaptus_ArraySteelPins.mat", squeeze_me=True)["data"]
    rf = np.stack([cell.T for cell in cells]).astype(np.float32)
    return rf - rf.mean(-1, keepdims=True)


def capture(x, z, n_samples=1750, rate=50e6, carrier=0.0):
    """Millimetres."""
    elements = 1e-3 * (torch.arange(32, dtype=F64) - 15.5)
    return FullMatrixCapture(elements, 1e-3 * x, 1e-3 * z, n_samples, rate, carrier, 40e-6, 1480.0)


def half_width(values, peak, step):
    """Width at half maximum around index ``peak``, between samples by linear interpolation."""
    half = values[peak] / 2
    sides = []
    for line in (values[peak:], values[peak::-1]):
        i = int(np.argmax(line < half))
        sides.append(i - 1 + (line[i - 1] - half) / (line[i - 1] - line[i]))
    return step * sum(sides)


@pytest.mark.slow
def test_pins_are_where_they_are_and_as_sharp_as_they_are(pins):
    x, z = 0.1 * torch.arange(-200, 201, dtype=F64), 0.1 * torch.arange(300, 541, dtype=F64)
    image = envelope(BackProjection()(analytic(pins)[None, None], capture(x, z)))[0, 0].numpy()
    peaks = np.argwhere((maximum_filter(image, 31) == image) & (image > 0.1 * image.max()))
    assert len(peaks) == 2
    for (across, depth), (level, axial, lateral) in PINS.items():
        row, column = min(peaks, key=lambda p: abs(float(z[p[0]]) - depth))
        assert (float(x[column]), float(z[row])) == pytest.approx((across, depth), abs=0.1001)
        assert 20 * np.log10(image[row, column] / image.max()) == pytest.approx(level, abs=0.1)
        assert half_width(image[:, column], row, 0.1) == pytest.approx(axial, rel=0.1)
        assert half_width(image[row], column, 0.1) == pytest.approx(lateral, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("across, depth", PINS)
def test_sparse_recovery_is_sharper_than_delay_and_sum(pins, across, depth):
    """On IQ data at 2.5 MHz, whose samples are as far apart as the pulse is long, FISTA with L1 takes the pulse out."""
    y = demodulate(pins, 50e6, 3.45e6, 2e6, 40e-6)[None, None, ..., ::20]
    offsets = 0.1 * torch.arange(-15, 16, dtype=F64)
    physics = capture(across + offsets, depth + offsets, y.shape[-1], 2.5e6, 3.45e6)
    focused = BackProjection()(y, physics)
    sparse = FISTA(L1(0.1 * float(focused.abs().max())), max_iter=40)(y, physics)
    assert area(sparse) < 2 / 3 * area(focused)
    assert side_lobes(sparse) < 0.1 * side_lobes(focused)


def area(image):
    """Pixels within 6 dB of the peak."""
    return int((image.abs() > image.abs().max() / 2).sum())


def side_lobes(image):
    """Share of the energy further than 1 mm across or deep from the middle."""
    energy = image.abs().square()[0, 0]
    return float(1 - energy[5:26, 5:26].sum() / energy.sum())
