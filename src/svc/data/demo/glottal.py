"""The glottal source: when the folds close, and the spectrum of one cycle."""

import numpy as np
from numpy.typing import NDArray

from svc.data.demo.performance import CONTROL_RATE_HZ, Floats


def phase_cycles(f0_hz: Floats) -> Floats:
    """[K] cycles since the start at each control point: the exact integral of a contour that is
    linear between its points."""
    steps = 0.5 * (f0_hz[1:] + f0_hz[:-1]) / CONTROL_RATE_HZ
    return np.concatenate([np.zeros(1), np.cumsum(steps)])


def closure_times_s(f0_hz: Floats) -> Floats:
    """[P] instants of glottal closure: where the phase of the contour f0_hz [K] is whole.

    Between control points the phase is quadratic in time, so each instant is a root in closed
    form and the fundamental of the result follows the contour exactly.
    """
    phase = phase_cycles(f0_hz)
    cycles = np.arange(1.0, np.floor(phase[-1]) + 1.0)
    segment = np.minimum(np.searchsorted(phase, cycles, side="right") - 1, len(f0_hz) - 2)
    start_hz = f0_hz[segment]
    slope_hz_per_s = (f0_hz[segment + 1] - start_hz) * CONTROL_RATE_HZ
    rest = cycles - phase[segment]
    # The root of slope / 2 t^2 + start t = rest in the form that also holds for slope = 0.
    offset_s = 2.0 * rest / (start_hz + np.sqrt(start_hz**2 + 2.0 * slope_hz_per_s * rest))
    return np.asarray(segment / CONTROL_RATE_HZ + offset_s, dtype=np.float64)


def pulse_spectra(
    frequencies_hz: NDArray[np.float32], f0_hz: Floats, open_quotient: Floats, tilt_hz: Floats
) -> NDArray[np.complex64]:
    """[P, bins] spectra of the differentiated glottal flow around a closure at time 0.

    The causal-anticausal linear model of Doval, d'Alessandro and Henrich, "The voice source as a
    causal/anticausal linear filter", VOQUAL 2003: a growing resonance in the open phase, cut off
    at the closure, behind a first-order low-pass of corner `tilt_hz` that rounds the cut. The
    excitation at closure is 1 whatever the F0, so the level hardly depends on it.

    Args:
        frequencies_hz: [bins].
        f0_hz: [P].
        open_quotient: [P] share of the cycle in which the folds are apart.
        tilt_hz: [P].
    """
    # The asymmetry of the pulse, alpha_m = 0.7: the flow rises for 70 % of the open phase.
    pole_imag = (np.pi * f0_hz / open_quotient).astype(np.float32)[:, None]
    pole_real = (-pole_imag / np.tan(np.pi * 0.7)).astype(np.float32)
    omega = (2.0 * np.pi * frequencies_hz).astype(np.float32)
    s = np.complex64(1j) * omega
    growth = pole_real - s
    tilt = 1.0 + s / (2.0 * np.pi * tilt_hz.astype(np.float32)[:, None])
    spectra = -s / ((growth * growth + pole_imag * pole_imag) * tilt)
    return np.asarray(spectra, dtype=np.complex64)
