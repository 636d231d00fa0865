"""The two pitch trackers of the WORLD vocoder."""

from abc import abstractmethod
from types import ModuleType
from typing import Any, cast

import numpy as np
import soxr
from numpy.typing import NDArray
from torch import Tensor

from svc.errors import UserError
from svc.features.pitch.base import Pitch, PitchTracker
from svc.features.pitch.contour import check_range, checked_samples, pitch_of

_STONEMASK_SHARE = 12
"""StoneMask gives up above a twelfth of the sample rate."""

_INAUDIBLE = 1e-9
"""Peak to peak, 180 dB below full scale: rounding, not sound."""


class WorldPitch(PitchTracker):
    """What both share: WORLD's frames are put onto those of the mel.

    WORLD's frame k is centred at k steps. With half a hop added in front, and the mel's hop as the
    step, its frame i + 1 is frame i of the mel.

    Args:
        f0_min_hz: lowest F0, above 0.
        f0_max_hz: highest F0, at most a twelfth of the analysis rate.
        silent_below_db: frames whose level is this far below the loudest are unvoiced; WORLD
            itself looks at no level, and finds pitch in what is left of a voice's echo.
        analysis_rate_hz: audio of a higher rate is resampled to this one.

    Raises:
        UserError: pyworld is not installed, or a value is out of range.
    """

    def __init__(
        self,
        f0_min_hz: float = 40.0,
        f0_max_hz: float = 1600.0,
        silent_below_db: float = -40.0,
        analysis_rate_hz: int = 24_000,
    ) -> None:
        _pyworld()
        check_range(f0_min_hz, f0_max_hz, analysis_rate_hz / _STONEMASK_SHARE)
        if not silent_below_db < 0:
            raise UserError(f"pitch.silent_below_db={silent_below_db:g} must be below 0.")
        self.f0_min_hz = f0_min_hz
        self.f0_max_hz = f0_max_hz
        self.silent_below_db = silent_below_db
        self.analysis_rate_hz = analysis_rate_hz

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, on the CPU.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        samples, frames = checked_samples(audio, hop_samples)
        if frames == 0 or np.ptp(samples) < _INAUDIBLE:
            return pitch_of(np.zeros(frames), self.f0_min_hz, self.f0_max_hz)
        samples -= samples.mean()
        power = np.square(samples).reshape(frames, hop_samples).mean(axis=1)
        # WORLD's filters are made for signals of about full scale.
        samples *= 0.5 / np.abs(samples).max()
        hop_s = hop_samples / sample_rate_hz
        rate_hz = self.analysis_rate_hz
        resampled = soxr.resample(samples, sample_rate_hz, rate_hz)
        front = round(0.5 * hop_s * rate_hz)
        # WORLD needs room for its longest filter, and gives a frame at the very end or not.
        total = max(round((frames + 1) * hop_s * rate_hz), round(4 / self.f0_min_hz * rate_hz))
        padded = np.pad(resampled, (front, max(total - front - resampled.shape[0], 1)))
        f0_hz = self._estimate(padded, rate_hz, 1000 * hop_s)[1 : frames + 1]
        loud = power > power.max() * 10 ** (self.silent_below_db / 10)
        return pitch_of(np.where(loud, f0_hz, 0.0), self.f0_min_hz, self.f0_max_hz)

    @abstractmethod
    def _estimate(
        self, samples: NDArray[np.float64], rate_hz: int, step_ms: float
    ) -> NDArray[np.float64]:
        """samples [T] -> F0 at every step from the first sample on, 0 where unvoiced."""

    def _range(self) -> dict[str, float]:
        return {"f0_floor": self.f0_min_hz, "f0_ceil": self.f0_max_hz}


class HarvestPitch(WorldPitch):
    """Harvest: many narrow bands looked at for zero crossings, then refined and joined.

    Morise, "Harvest: A high-performance fundamental frequency estimator from speech signals",
    Interspeech 2017. Finds more of the weak and creaky ends of a voice than `DioPitch` does, calls
    more of the unvoiced sounds voiced, and takes some ten times as long. See `WorldPitch` for the
    settings.
    """

    def _estimate(
        self, samples: NDArray[np.float64], rate_hz: int, step_ms: float
    ) -> NDArray[np.float64]:
        f0_hz, _ = _pyworld().harvest(samples, rate_hz, frame_period=step_ms, **self._range())
        return cast("NDArray[np.float64]", f0_hz)


class DioPitch(WorldPitch):
    """DIO: a few low-passed bands looked at for even zero crossings, refined by StoneMask.

    Morise, Kawahara and Katayose, "Fast and reliable F0 estimation method based on the period
    extraction of vocal fold vibration of singing voice and speech", AES 35th conference (2009).
    StoneMask takes each estimate to the instantaneous frequency of its harmonics. See `WorldPitch`
    for the settings.
    """

    def _estimate(
        self, samples: NDArray[np.float64], rate_hz: int, step_ms: float
    ) -> NDArray[np.float64]:
        world = _pyworld()
        coarse, times_s = world.dio(samples, rate_hz, frame_period=step_ms, **self._range())
        refined = world.stonemask(samples, coarse, times_s, rate_hz)
        # StoneMask answers 0 where it gives up, as it does below 40 Hz.
        return cast("NDArray[np.float64]", np.where(refined > 0, refined, coarse))


def _pyworld() -> ModuleType:
    try:
        import pyworld
    except ImportError as error:
        raise UserError(
            "pitch=harvest and pitch=dio need pyworld, which is not installed: "
            'pip install "svc[world]". pitch=parselmouth works without it.'
        ) from error
    module: Any = pyworld
    return cast("ModuleType", module)
