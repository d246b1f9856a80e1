r"""Radio-frequency traces as complex signals.

.. math:: \mathrm{IQ}(t) = 2\, \mathrm{lowpass}\big[r(t)\, e^{-j 2\pi f_c t}\big], \qquad
          a(t) = r(t) + j\, \mathcal{H} r(t) .

An echo of a pulse with envelope g that arrives at tau has ``IQ(t) = g(t - tau) exp(-j 2 pi f_c tau)``, which is what
:class:`resolvent.operators.PlaneWaveIQ` models. Demodulation first is what bandpass sampling (``fs < 2 fc``) needs:
linear interpolation between samples then sees the slow envelope instead of the carrier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.signal import butter, hilbert, sosfiltfilt
from torch import Tensor

#: Samples that the filter asks for at either end.
SHORTEST = 18


def demodulate(
    rf: Any, sampling_frequency: float, carrier_frequency: float, bandwidth: float, start_time: Any = 0.0
) -> Tensor:
    """In-phase and quadrature data ``(..., n_samples)`` complex, of the precision of ``rf``.

    :param rf: real traces ``(..., n_samples)``, array or tensor; integers become double precision.
    :param bandwidth: two-sided, in hertz: a zero-phase Butterworth filter of order 5 has its corner at half of it.
    :param start_time: time of the first sample in seconds, or an array that broadcasts against ``(...)``.
    :raises ValueError: for complex traces, too few samples, or a bandwidth not between 0 and the sampling frequency.
    """
    traces = _real(rf)
    if traces.shape[-1] <= SHORTEST:
        raise ValueError(f"rf: found {traces.shape[-1]} samples, expected more than {SHORTEST}")
    if not 0 < bandwidth < sampling_frequency:
        raise ValueError(f"bandwidth: found {bandwidth:g} Hz, expected between 0 and {sampling_frequency:g} Hz")
    time = np.asarray(start_time)[..., None] + np.arange(traces.shape[-1]) / sampling_frequency
    lowpass = butter(5, bandwidth / sampling_frequency, output="sos")
    mixed = traces * np.exp(-2j * np.pi * carrier_frequency * time)
    return _tensor(2 * sosfiltfilt(lowpass, mixed), traces)


def analytic(rf: Any) -> Tensor:
    """Analytic signals ``(..., n_samples)`` complex of real traces, each less its mean; the carrier stays in them."""
    traces = _real(rf)
    return _tensor(hilbert(traces - traces.mean(-1, keepdims=True)), traces)


def _real(rf: Any) -> np.ndarray:
    traces = rf.detach().cpu().numpy() if isinstance(rf, Tensor) else np.asarray(rf)
    if np.iscomplexobj(traces):
        raise ValueError(f"rf: found {traces.dtype}, expected real traces")
    return traces if traces.dtype == np.float32 else traces.astype(np.float64)


def _tensor(signal: np.ndarray, traces: np.ndarray) -> Tensor:
    return torch.from_numpy(signal).to(torch.complex64 if traces.dtype == np.float32 else torch.complex128)
