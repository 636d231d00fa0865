"""What a model is told about a recording, and by how much its melody may be transposed."""

import torch
from torch import Tensor

from svc.errors import UserError
from svc.inference.analysis import Analysis
from svc.models.conditioner import Conditioning

MAX_SHIFT_SEMITONES = 24.0


def conditioning_of(analysis: Analysis, speaker: Tensor, shift_semitones: float) -> Conditioning:
    """What a model is told about a whole recording, B = 1, on the CPU.

    Args:
        analysis: of the recording.
        speaker: index into the model's speaker table [1], or weights that mix its rows.
        shift_semitones: transposition of the melody.
    """
    return Conditioning(
        content=analysis.content[None],
        f0_hz=analysis.f0_hz[None] * 2 ** (shift_semitones / 12),
        voiced=analysis.voiced[None],
        energy=analysis.energy[None],
        speaker=speaker,
        # Formants stay those of the speaker: the key shift describes how the training audio
        # was transposed, and nothing here is transposed but the melody.
        key_shift_semitones=torch.zeros(1),
    )


def check_shift(semitones: float) -> None:
    """Whether a transposition is within reason.

    Raises:
        UserError: more than two octaves, or not a number.
    """
    if not -MAX_SHIFT_SEMITONES <= semitones <= MAX_SHIFT_SEMITONES:
        raise UserError(
            f"pitch_shift={semitones} must lie between {-MAX_SHIFT_SEMITONES:g} and "
            f"{MAX_SHIFT_SEMITONES:g} semitones (12 is an octave)."
        )
