"""Several pitch trackers that vote."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from svc.errors import UserError
from svc.features.pitch.base import Pitch, PitchTracker
from svc.features.pitch.contour import check_range, pitch_of
from svc.features.pitch.disagreement import EnsembleReport, report_of
from svc.features.pitch.repair import continued, fill_dropouts, unfold_octaves

Floats = NDArray[np.float64]

_HIGHEST_HZ = 20_000.0
"""Of any tracker; each member checks its own."""


class EnsemblePitch(PitchTracker):
    """F0 and voicing by the vote of two or more trackers, frame by frame.

    A frame is voiced where more than half of the members say so, and where just half of them do if
    it hangs together with such a frame by steps of less than a semitone. Of the members voiced in a
    frame the largest group within `tolerance_cents` is believed; F0 is its median over log
    frequency. Where no group is the largest (two members, two opinions) the one nearest to the line
    between the surrounding frames that several members agree on is. Then two faults are mended:

    - octave jumps: a run of at most `longest_jump_s` that lies whole octaves away from both of its
      neighbours is moved to them (`unfold_octaves`);
    - dropouts: an unvoiced gap of at most `longest_dropout_s` within a note is bridged
      (`fill_dropouts`).

    Args:
        members: two or more trackers by name, each as a class or a `functools.partial` of one
            (`_partial_: true` in a configuration). The ensemble makes them, with its own range.
        f0_min_hz, f0_max_hz: the range in which every member searches.
        tolerance_cents: how far apart members may be and still say the same.
        longest_jump_s: of an octave jump that is repaired; 0 repairs none.
        longest_dropout_s: of a gap that is bridged; 0 bridges none.

    Raises:
        UserError: fewer than two members, a member that is made already, or a value out of range.
    """

    def __init__(
        self,
        members: Mapping[str, Callable[..., PitchTracker]],
        f0_min_hz: float = 40.0,
        f0_max_hz: float = 1600.0,
        tolerance_cents: float = 50.0,
        longest_jump_s: float = 0.2,
        longest_dropout_s: float = 0.04,
    ) -> None:
        check_range(f0_min_hz, f0_max_hz, _HIGHEST_HZ)
        _check_members(members)
        if not 0 < tolerance_cents < 600:
            raise UserError(
                f"pitch.tolerance_cents={tolerance_cents:g} must lie between 0 and 600."
            )
        if longest_jump_s < 0 or longest_dropout_s < 0:
            raise UserError(
                f"pitch.longest_jump_s={longest_jump_s:g} and pitch.longest_dropout_s="
                f"{longest_dropout_s:g} must not be below 0."
            )
        self.f0_min_hz = f0_min_hz
        self.f0_max_hz = f0_max_hz
        self.tolerance_octaves = tolerance_cents / 1200
        self.longest_jump_s = longest_jump_s
        self.longest_dropout_s = longest_dropout_s
        self.members: dict[str, PitchTracker] = {
            name: make(f0_min_hz=f0_min_hz, f0_max_hz=f0_max_hz) for name, make in members.items()
        }
        devices = [member.device for member in self.members.values()]
        self.device = next((device for device in devices if device != "cpu"), "cpu")

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, on the CPU.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        return self.track_batch([audio], sample_rate_hz, hop_samples)[0]

    def track_batch(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Pitch]:
        """As `track`; each member may take several pieces through together."""
        pitches = []
        for contours in self._contours(audios, sample_rate_hz, hop_samples):
            voted = self._voted(contours, hop_samples / sample_rate_hz)
            f0_hz = np.where(np.isfinite(voted), np.exp2(np.nan_to_num(voted)), 0.0)
            pitches.append(pitch_of(f0_hz, self.f0_min_hz, self.f0_max_hz))
        return pitches

    def compare(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> EnsembleReport:
        """Where the members disagree about audio [T]; raises what `track` raises."""
        hop_s = hop_samples / sample_rate_hz
        (contours,) = self._contours([audio], sample_rate_hz, hop_samples)
        voted = self._voted(contours, hop_s)
        return report_of(list(self.members), contours, voted, self.tolerance_octaves, hop_s)

    def identity(self) -> dict[str, str]:
        """What the members say of themselves."""
        return {
            f"{name}_{key}": value
            for name, member in self.members.items()
            for key, value in member.identity().items()
        }

    def _contours(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Floats]:
        """[members, N] log2 of F0 in Hz, NaN where a member is unvoiced, of each piece."""
        found = [
            member.track_batch(audios, sample_rate_hz, hop_samples)
            for member in self.members.values()
        ]
        return [
            np.stack([_log_f0(pitch) for pitch in of_piece])
            for of_piece in zip(*found, strict=True)
        ]

    def _voted(self, contours: Floats, hop_s: float) -> Floats:
        """[members, N] -> [N], both log2 of F0 in Hz and NaN where unvoiced."""
        votes = np.isfinite(contours).sum(axis=0)
        believed = _believed(contours, self.tolerance_octaves)
        possible = np.where(2 * votes >= len(contours), believed, np.nan)
        voiced = continued(possible, 2 * votes > len(contours))
        voted = np.where(voiced, believed, np.nan)
        voted = unfold_octaves(voted, round(self.longest_jump_s / hop_s))
        return fill_dropouts(voted, round(self.longest_dropout_s / hop_s))


def _log_f0(pitch: Pitch) -> Floats:
    voiced = pitch.voiced.cpu().numpy()
    f0_hz = pitch.f0_hz.cpu().double().numpy()
    log_f0: Floats = np.where(voiced, np.log2(np.where(voiced, f0_hz, 1.0)), np.nan)
    return log_f0


def _believed(contours: Floats, tolerance_octaves: float) -> Floats:
    """[M, N] -> [N]: the median of the largest group of members, NaN where none is voiced."""
    near = np.abs(contours[:, None] - contours[None]) <= tolerance_octaves  # NaN is near nothing
    support = near.sum(axis=1)
    # Group m is everyone who is near member m.
    medians = np.stack([_median(np.where(group, contours, np.nan)) for group in near])
    largest = (support == support.max(axis=0)) & (support > 0)
    first: Floats = np.take_along_axis(medians, largest.argmax(axis=0)[None], axis=0)[0]
    agreed = np.flatnonzero(support.max(axis=0) > 1)
    if len(agreed) == 0:
        return first
    line = np.interp(np.arange(len(first)), agreed, first[agreed])
    distance = np.where(largest, np.abs(np.nan_to_num(medians) - line), np.inf)
    nearest: Floats = np.take_along_axis(medians, distance.argmin(axis=0)[None], axis=0)[0]
    return nearest


def _median(rows: Floats) -> Floats:
    """Median over the first axis of what is not NaN; NaN where nothing is."""
    ordered = np.sort(rows, axis=0)  # NaN come last
    count = np.isfinite(ordered).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, len(rows) - 1)
    pair = [np.take_along_axis(ordered, index[None], axis=0)[0] for index in (low, high)]
    middle: Floats = np.where(count > 0, (pair[0] + pair[1]) / 2, np.nan)
    return middle


def _check_members(members: Mapping[str, Callable[..., PitchTracker]]) -> None:
    if len(members) < 2:
        raise UserError(
            f"pitch.members has {len(members)} tracker(s) ({', '.join(members)}); an ensemble "
            f"needs two or more."
        )
    for name, member in members.items():
        if not callable(member):
            raise UserError(
                f"pitch.members.{name} is made already. Put `_partial_: true` beside its _target_: "
                f"the ensemble makes its members itself, for its own range."
            )
