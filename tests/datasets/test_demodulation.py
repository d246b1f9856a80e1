"""IQ data of a modulated pulse are its envelope and phase; analytic signals are what they are of."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from resolvent.datasets import analytic, demodulate
from resolvent.operators import PlaneWaveIQ

WIDTH = 1.2e-6


def envelope(time, arrival):
    return torch.exp(-((time - arrival) ** 2) / (2 * WIDTH**2))


def echo(time, arrival, carrier):
    return envelope(time, arrival) * torch.cos(2 * math.pi * carrier * (time - arrival))


@pytest.mark.parametrize(
    "rate, carrier, bandwidth", [(40e6, 5e6, 4e6), (20e6 / 3, 5e6, 2e6)], ids=["oversampled", "bandpass-sampled"]
)
@pytest.mark.parametrize("start", [0.0, 9.95e-6])
def test_iq_is_envelope_and_phase(rate, carrier, bandwidth, start):
    """``IQ(t) = g(t - tau) exp(-j 2 pi f_c tau)``, also where the carrier lies above half the sampling frequency."""
    time = start + torch.arange(800, dtype=torch.float64) / rate
    arrival = start + 371.3 / rate
    expected = envelope(time, arrival) * torch.exp(torch.tensor(-2j * math.pi * carrier * arrival))
    assert_close(demodulate(echo(time, arrival, carrier), rate, carrier, bandwidth, start), expected, atol=2e-3, rtol=0)


def test_a_tone_outside_the_band_is_gone():
    time = torch.arange(2000, dtype=torch.float64) / 40e6
    iq = demodulate(torch.cos(2 * math.pi * 9e6 * time), 40e6, 5e6, 2e6)
    assert iq[600:-600].abs().max() < 1 / (1 + 4**10)  # the filter's gain there and back, without frequency warping


def test_the_operator_models_demodulated_echoes():
    """A scatterer's RF echo, demodulated, is the operator's trace smoothed by the pulse: same delay, same phase."""
    rate, carrier, start = 40e6, 5e6, 5e-6
    physics = PlaneWaveIQ([0.15], [-3e-3, 2e-3], [1e-3], [12e-3], 1000, rate, carrier, start)
    trace = physics.A(torch.ones(1, 1, 1, 1, dtype=torch.complex128))[0, 0, 0]
    time = start + torch.arange(1000, dtype=torch.float64) / rate
    out = 1e-3 * math.sin(0.15) + 12e-3 * math.cos(0.15)
    for element, one in zip([-3e-3, 2e-3], trace, strict=True):
        arrival = (out + math.hypot(1e-3 - element, 12e-3)) / 1540
        iq = demodulate(echo(time, arrival, carrier), rate, carrier, 4e6, start)
        assert_close(float((one.abs() * time).sum()), arrival, rtol=1e-12, atol=0)
        assert_close(one.sum(), iq[iq.abs().argmax()] / iq.abs().max(), atol=2e-3, rtol=0)


def test_analytic_signal_keeps_the_real_part_and_drops_negative_frequencies():
    rf = torch.randn(3, 256, dtype=torch.float64)
    signal = analytic(rf + 5)
    assert_close(signal.real, rf - rf.mean(-1, keepdim=True))
    assert torch.fft.fft(signal)[:, 129:].abs().max() < 1e-10


@pytest.mark.parametrize("convert", [analytic, lambda rf: demodulate(rf, 40e6, 5e6, 2e6)])
def test_arrays_tensors_and_precision(convert):
    rf = np.random.default_rng(0).integers(-500, 500, (2, 300)).astype(np.int16)
    assert convert(rf).dtype == torch.complex128
    assert torch.equal(convert(rf), convert(torch.as_tensor(rf)))
    assert convert(rf.astype(np.float32)).dtype == torch.complex64


def test_refusals():
    with pytest.raises(ValueError, match=r"rf: found complex64, expected real traces"):
        analytic(torch.ones(4, dtype=torch.complex64))
    for bandwidth in (0, 40e6):
        with pytest.raises(ValueError, match=r"bandwidth: found .* Hz, expected between"):
            demodulate(torch.ones(100), 40e6, 5e6, bandwidth)
