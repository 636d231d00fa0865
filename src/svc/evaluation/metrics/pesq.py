"""Perceptual evaluation of speech quality, where the package for it is there."""

import importlib.util
import math

import soxr
from torch import Tensor

from svc.errors import UserError

_RATE_HZ = 16_000
SHORTEST_S = 0.25
"""The standard's own utterances are longer; below this the package refuses."""


def pesq_is_there() -> bool:
    """Whether the package `pesq` (the extra `eval`) is installed."""
    return importlib.util.find_spec("pesq") is not None


def pesq_wideband(audio: Tensor, truth: Tensor, sample_rate_hz: int) -> float:
    """Wide-band PESQ of a signal against what it should be (ITU-T P.862.2).

    An estimate of what listeners to telephone speech would say, up to 8 kHz; for singing it was
    never calibrated, so that it ranks but does not grade.

    Args:
        audio: [T].
        truth: [T].
        sample_rate_hz: of both; they are resampled to 16 kHz.

    Returns:
        From 1.04 to 4.64, more is better; NaN where the standard finds no utterance.

    Raises:
        UserError: the package `pesq` is not installed.
    """
    if not pesq_is_there():
        raise UserError("PESQ needs the package pesq: pip install 'svc[eval]' (it compiles C).")
    from pesq import NoUtterancesError, pesq

    wanted, heard = (
        soxr.resample(signal.detach().cpu().float().numpy(), sample_rate_hz, _RATE_HZ)
        for signal in (truth, audio)
    )
    if len(wanted) < SHORTEST_S * _RATE_HZ or not wanted.any() or not heard.any():
        return math.nan
    try:
        return float(pesq(_RATE_HZ, wanted, heard, "wb"))
    except NoUtterancesError:
        return math.nan
