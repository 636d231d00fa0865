"""Who sings: everything that makes one synthetic voice differ from another."""

from collections.abc import Sequence
from dataclasses import dataclass

from svc.errors import UserError


@dataclass(frozen=True)
class Singer:
    """Vocal tract, glottis and manner of one singer.

    The first block shapes `render` and so belongs to the voice that is heard; the second shapes
    `perform` and so stays with the singer who performed, also when another voice renders it.
    """

    name: str
    key_midi: int
    """MIDI note of the tonic; scores stay within about -5 to +12 semitones of it."""
    formant_scale: float
    """Formant frequencies relative to the reference tract; a shorter tract has a higher scale."""
    formant_ratios: tuple[float, float, float, float, float, float]
    """Where each formant lies relative to that uniform scale."""
    bandwidth_scale: float
    """Formant bandwidths relative to the reference."""
    tilt_hz: float
    """Corner at which the source of a mezzo-forte falls by another 6 dB per octave."""
    open_quotient: float
    """Share of the glottal cycle in which the folds are apart, at mezzo-forte."""
    breathiness_db: float
    """RMS of the aspiration noise relative to the voice, at mezzo-forte."""
    sibilance_db: float
    """Level of fricatives and bursts relative to the table of phonemes."""
    notch_hz: float
    """Antiresonance of the piriform sinuses."""

    vibrato_rate_hz: float
    vibrato_depth_cents: float
    vibrato_delay_s: float
    """How long a note is held straight before vibrato sets in."""
    portamento_s: float
    """Usual duration of the glide between two notes."""
    jitter_cents: float
    """Standard deviation of the fast irregularity of F0."""
    shimmer_db: float
    """Standard deviation of the fast irregularity of level."""

    @property
    def key_hz(self) -> float:
        """F0 of the tonic."""
        return float(440.0 * 2.0 ** ((self.key_midi - 69) / 12))


SINGERS: tuple[Singer, ...] = (
    Singer(
        name="bruno_bass",
        key_midi=45,
        formant_scale=0.86,
        # Lowered larynx: the upper formants cluster into the ring of an opera voice.
        formant_ratios=(0.98, 0.97, 1.02, 0.93, 0.90, 0.98),
        bandwidth_scale=0.8,
        tilt_hz=1000.0,
        open_quotient=0.5,
        breathiness_db=-36.0,
        sibilance_db=-4.0,
        notch_hz=3900.0,
        vibrato_rate_hz=5.0,
        vibrato_depth_cents=55.0,
        vibrato_delay_s=0.25,
        portamento_s=0.11,
        jitter_cents=4.0,
        shimmer_db=0.5,
    ),
    Singer(
        name="alma_alto",
        key_midi=57,
        formant_scale=1.09,
        formant_ratios=(1.02, 1.04, 1.0, 0.99, 1.0, 1.0),
        bandwidth_scale=1.6,
        tilt_hz=650.0,
        open_quotient=0.72,
        breathiness_db=-21.0,
        sibilance_db=2.0,
        notch_hz=5200.0,
        vibrato_rate_hz=5.6,
        vibrato_depth_cents=35.0,
        vibrato_delay_s=0.35,
        portamento_s=0.08,
        jitter_cents=3.5,
        shimmer_db=0.35,
    ),
    Singer(
        name="theo_tenor",
        key_midi=50,
        formant_scale=1.0,
        formant_ratios=(1.0, 1.0, 0.99, 0.9, 0.88, 0.98),
        bandwidth_scale=1.1,
        tilt_hz=5500.0,
        open_quotient=0.42,
        breathiness_db=-30.0,
        sibilance_db=2.0,
        notch_hz=4400.0,
        vibrato_rate_hz=5.9,
        vibrato_depth_cents=65.0,
        vibrato_delay_s=0.2,
        portamento_s=0.07,
        jitter_cents=4.0,
        shimmer_db=0.3,
    ),
    Singer(
        name="sofia_soprano",
        key_midi=62,
        formant_scale=1.2,
        formant_ratios=(1.06, 1.02, 1.01, 1.0, 0.95, 0.96),
        bandwidth_scale=0.8,
        tilt_hz=4500.0,
        open_quotient=0.62,
        breathiness_db=-34.0,
        sibilance_db=4.0,
        notch_hz=5700.0,
        vibrato_rate_hz=6.1,
        vibrato_depth_cents=50.0,
        vibrato_delay_s=0.28,
        portamento_s=0.06,
        jitter_cents=3.5,
        shimmer_db=0.25,
    ),
)


def singer_by_name(name: str, singers: Sequence[Singer] = SINGERS) -> Singer:
    """The singer of that name.

    Raises:
        UserError: nobody is called that.
    """
    for singer in singers:
        if singer.name == name:
            return singer
    known = ", ".join(singer.name for singer in singers)
    raise UserError(f"no demo singer is called {name!r}; there are: {known}")


def default_key_shift_semitones(source: Singer, target: Singer) -> int:
    """Whole semitones that carry the range of `source` into the range of `target`."""
    return target.key_midi - source.key_midi
