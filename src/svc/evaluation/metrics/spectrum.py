"""Distances between the spectra of two aligned signals."""

import math

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec

SILENT_BELOW_DB = -50.0
"""Frames this far below the loudest frame of the truth count as silent."""


AUDIBLE_RANGE_DB = 60.0
"""What lies further below a recording's loudest mel bin is taken to be that far below. A voice
without any room around it falls to nothing between its partials and above 10 kHz; without this
limit the distortion measures how black that nothing is, and hiss that hardly anybody hears weighs
more than another vowel."""


def frame_rms(audio: Tensor, spec: AudioSpec) -> Tensor:
    """Root mean square of every hop.

    Args:
        audio: [T], linear.

    Returns:
        [N], N = T // hop_samples, linear.
    """
    frames = spec.frames(audio.shape[-1])
    whole = audio[..., : frames * spec.hop_samples].double()
    return whole.reshape(frames, spec.hop_samples).square().mean(dim=1).sqrt().float()


def active_frames(
    audio: Tensor, spec: AudioSpec, silent_below_db: float = SILENT_BELOW_DB
) -> Tensor:
    """Which frames are not silent, judged against the loudest frame.

    Args:
        audio: [T], linear.
        silent_below_db: threshold relative to the loudest frame's RMS.

    Returns:
        [N] bool; all False for digital silence.
    """
    rms = frame_rms(audio, spec)
    if not len(rms) or float(rms.max()) == 0.0:
        return torch.zeros(len(rms), dtype=torch.bool)
    return rms > rms.max() * 10 ** (silent_below_db / 20)


def mel_cepstra(log_mel: Tensor, order: int = 24) -> Tensor:
    """Cosine transform of a log mel spectrum.

    Scaled so that log_mel ~ c_0 + sum_k c_k cos(pi k (m + 1/2) / M), the convention in which
    Kubichek's constant makes a distortion in dB.

    Args:
        log_mel: [M, N], natural log of the magnitude.
        order: the highest coefficient.

    Returns:
        [order, N]: coefficients 1 to `order`. Coefficient 0, the level, is left out.
    """
    bins = log_mel.shape[0]
    position = (torch.arange(bins, dtype=torch.float64, device=log_mel.device) + 0.5) / bins
    index = torch.arange(1, order + 1, dtype=torch.float64, device=log_mel.device)
    basis = torch.cos(math.pi * index[:, None] * position[None, :]) * (2 / bins)
    return basis @ log_mel.double()


def limit_range(log_mel: Tensor, range_db: float = AUDIBLE_RANGE_DB) -> Tensor:
    """log_mel [M, N], raised to `range_db` below its loudest bin wherever it is lower."""
    return log_mel.clamp(min=float(log_mel.max()) - range_db * math.log(10) / 20)


def mel_cepstral_distortion_db(
    log_mel: Tensor, truth_log_mel: Tensor, active: Tensor, order: int = 24
) -> float:
    """Mel-cepstral distortion of two aligned signals, in dB.

    10 / ln 10 * sqrt(2 * sum_k (c_k - c'_k)^2), k = 1 … order, averaged over the active frames
    (R. Kubichek, "Mel-cepstral distance measure for objective speech quality assessment", 1993).
    With these cepstra it is the RMS distance in dB between two spectral envelopes, smoothed to
    `order` cosines over the mel axis and freed of their levels. Each signal counts down to 60 dB
    below its own loudest bin. Nothing is warped in time: both signals must be aligned.

    Args:
        log_mel: [M, N], natural log of the magnitude.
        truth_log_mel: [M, N].
        active: [N] bool, the frames to average over.

    Returns:
        dB >= 0; NaN where no frame is active.

    Raises:
        ValueError: the shapes differ.
    """
    _check_aligned(log_mel, truth_log_mel, active)
    if not bool(active.any()):
        return math.nan
    heard, truth_heard = limit_range(log_mel[:, active]), limit_range(truth_log_mel[:, active])
    difference = mel_cepstra(heard - truth_heard, order)
    per_frame = (2 * difference.square().sum(dim=0)).sqrt() * (10 / math.log(10))
    return float(per_frame.mean())


def average_spectrum_distance_db(log_mel: Tensor, other_log_mel: Tensor, order: int = 24) -> float:
    """Distance in dB between the average envelopes of two recordings, of any content and length.

    The formula of the mel-cepstral distortion, applied to the mean cepstra. It tells voices and
    microphones apart, not what is sung.

    Args:
        log_mel: [M, N] natural-log mel of the frames that are not silent.
        other_log_mel: [M, N'] likewise.

    Returns:
        dB >= 0; NaN where one of them has no frames.
    """
    if log_mel.shape[1] == 0 or other_log_mel.shape[1] == 0:
        return math.nan
    mean = mel_cepstra(limit_range(log_mel), order).mean(dim=1)
    other = mel_cepstra(limit_range(other_log_mel), order).mean(dim=1)
    return 10 / math.log(10) * math.sqrt(2 * float((mean - other).square().sum()))


def log_mel_l1(log_mel: Tensor, truth_log_mel: Tensor, active: Tensor) -> float:
    """Mean absolute difference of two natural-log mels [M, N] over the active frames [N] bool.

    Level counts: a gain g gives |ln g|. NaN where no frame is active.

    Raises:
        ValueError: the shapes differ.
    """
    _check_aligned(log_mel, truth_log_mel, active)
    if not bool(active.any()):
        return math.nan
    return float((log_mel[:, active] - truth_log_mel[:, active]).abs().double().mean())


def level_difference_db(audio: Tensor, truth: Tensor) -> float:
    """By how many dB the RMS of `audio` [T] lies above that of `truth` [T].

    -inf where only `audio` is silent, inf where only `truth` is, 0 where both are.
    """
    power = float(audio.double().square().mean())
    truth_power = float(truth.double().square().mean())
    if power == truth_power:
        return 0.0
    if truth_power == 0.0:
        return math.inf
    return 10 * math.log10(power / truth_power) if power > 0.0 else -math.inf


def _check_aligned(log_mel: Tensor, truth_log_mel: Tensor, active: Tensor) -> None:
    if log_mel.shape != truth_log_mel.shape or active.shape != log_mel.shape[1:]:
        raise ValueError(
            f"mels must have the same shape [M, N] and active [N], got "
            f"{tuple(log_mel.shape)}, {tuple(truth_log_mel.shape)} and {tuple(active.shape)}"
        )
