"""The vocal tract: from formants to a transfer function."""

import numpy as np
from numpy.typing import NDArray

from svc.data.demo.performance import Floats
from svc.data.demo.singers import Singer

Spectra = NDArray[np.complex64]

_TOP_HZ = 18_500.0
_NYQUIST_HZ = 22_050.0


def singer_formants_hz(reference_hz: Floats, f0_hz: Floats, singer: Singer) -> Floats:
    """Formants of the singer's own tract, [FORMANTS, P] from [FORMANTS, P] of the reference.

    The first formant never lies below F0 [P]: singers open the jaw on high notes.
    """
    ratios = singer.formant_scale * np.array(singer.formant_ratios)
    formants_hz = reference_hz * ratios[:, None]
    formants_hz[0] = np.maximum(formants_hz[0], 1.05 * f0_hz)
    formants_hz[1] = np.maximum(formants_hz[1], formants_hz[0] + 150.0)
    return np.asarray(formants_hz, dtype=np.float64)


def resonances(
    frequencies_hz: NDArray[np.float32], formants_hz: Floats, bandwidths_hz: Floats
) -> Spectra:
    """[P, bins] response of a cascade of formants [FORMANTS, P], each of gain 1 at 0 Hz (Fant,
    "Acoustic Theory of Speech Production", 1960)."""
    squares = (frequencies_hz * frequencies_hz).astype(np.float32)
    denominator: Spectra | None = None
    for centre_hz, width_hz in zip(formants_hz, bandwidths_hz, strict=True):
        power = (centre_hz**2 + 0.25 * width_hz**2).astype(np.float32)[:, None]
        term = np.empty((len(centre_hz), len(frequencies_hz)), dtype=np.complex64)
        term.real = 1.0 - squares / power
        term.imag = (width_hz[:, None] / power).astype(np.float32) * frequencies_hz
        denominator = term if denominator is None else np.multiply(denominator, term, out=term)
    if denominator is None:
        raise ValueError("resonances needs at least one formant.")
    return np.reciprocal(denominator)


def fixed_response(frequencies_hz: NDArray[np.float32], singer: Singer) -> Spectra:
    """[bins] what no articulation changes: the upper formants up to half of the sample rate, the
    notch of the piriform sinuses, and a fade to nothing at half of the sample rate."""
    spacing_hz = 1000.0 * singer.formant_scale
    centres = np.arange(6.4 * spacing_hz, 1.3 * _NYQUIST_HZ, spacing_hz)[:, None]
    upper = resonances(frequencies_hz, centres, 0.08 * singer.bandwidth_scale * centres)[0]
    f = frequencies_hz.astype(np.complex64)
    zero = 1.0 - (f / singer.notch_hz) ** 2 + 1j * f * 200.0 / singer.notch_hz**2
    pole = 1.0 - (f / singer.notch_hz) ** 2 + 1j * f * 900.0 / singer.notch_hz**2
    fade = np.clip((_NYQUIST_HZ - frequencies_hz) / (_NYQUIST_HZ - _TOP_HZ), 0.0, 1.0)
    return np.asarray(upper * zero / pole * np.sin(0.5 * np.pi * fade) ** 2, dtype=np.complex64)
