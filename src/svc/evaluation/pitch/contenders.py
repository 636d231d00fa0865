"""Which trackers take part, and what the others lack."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svc.errors import UserError, UserErrors
from svc.evaluation.task import Candidate
from svc.evaluation.task import chosen as chosen_of
from svc.features.pitch.base import Pitch, PitchTracker

_WARM_UP_S = 1.0


@dataclass
class Contender:
    """A tracker that works here, with a clock."""

    name: str
    tracker: PitchTracker
    audio_s: float = field(default=0.0, init=False)
    """How much audio it has been given."""
    spent_s: float = field(default=0.0, init=False)
    """How long it took."""

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of audio; NaN before anything was tracked."""
        return self.spent_s / self.audio_s if self.audio_s else math.nan

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """Like `PitchTracker.track`, on the CPU, with the clock running.

        Raises:
            RuntimeError: the contour does not have a value for each frame.
        """
        began = time.perf_counter()
        pitch = self.tracker.track(audio, sample_rate_hz, hop_samples)
        self.spent_s += time.perf_counter() - began
        self.audio_s += audio.shape[0] / sample_rate_hz
        frames = audio.shape[0] // hop_samples
        if pitch.f0_hz.shape != (frames,) or pitch.voiced.shape != (frames,):
            raise RuntimeError(
                f"pitch={self.name} returned {tuple(pitch.f0_hz.shape)} values where there are "
                f"{frames} frames"
            )
        return Pitch(f0_hz=pitch.f0_hz.detach().cpu(), voiced=pitch.voiced.detach().cpu())


@dataclass(frozen=True)
class Missing:
    """A tracker that cannot work here."""

    name: str
    reason: str
    """What is missing and what to do."""


def chosen(candidates: Sequence[Candidate], names: Sequence[str] | None) -> list[Candidate]:
    """The candidates of those names, in the order of the names; all of them for None.

    Raises:
        UserErrors: a name that no candidate has, with the nearest one.
    """
    return chosen_of(candidates, names, "task.trackers", "tracker")


def make_ready(
    candidates: Sequence[Candidate], sample_rate_hz: int, hop_samples: int
) -> tuple[list[Contender], list[Missing]]:
    """Build the trackers and let each track a second of sound, so that weights are loaded and no
    first use is timed.

    Raises:
        UserErrors: not one of them works here, with the reasons.
    """
    time_s = torch.arange(round(_WARM_UP_S * sample_rate_hz)) / sample_rate_hz
    tone = 0.1 * torch.sin(2 * math.pi * 220 * time_s)
    ready, missing = [], []
    for candidate in candidates:
        try:
            tracker = candidate.build()
            tracker.track(tone, sample_rate_hz, hop_samples)
        except UserError as error:
            missing.append(Missing(candidate.name, str(error)))
        else:
            ready.append(Contender(candidate.name, tracker))
    if not ready:
        raise UserErrors("No tracker can work here:", [f"{m.name}: {m.reason}" for m in missing])
    return ready, missing
