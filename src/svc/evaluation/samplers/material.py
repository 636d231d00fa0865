"""What a model is asked to sing, and the noise that every sampler begins with."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from svc.audio.spec import AudioSpec
from svc.diffusion.sampling import initial_noise
from svc.errors import UserError
from svc.evaluation.vocoder.material import Sample, demo_phrases, recordings
from svc.inference.analysis import Extractors
from svc.inference.conditioning import conditioning_of
from svc.models.conditioner import Conditioning

PIECES = 3
"""Into how many the audio is divided, so that not one voice alone is heard."""
SHORTEST_PHRASE_S = 6.0
"""Of the synthetic singers."""


@dataclass(frozen=True)
class Piece:
    """A few seconds to sing."""

    conditioning: Conditioning
    """B = 1, N frames."""
    noise: Tensor
    """[1, M, N] standard normal."""

    @property
    def frames(self) -> int:
        """N."""
        return self.conditioning.frames


def pieces(
    extractors: Extractors,
    spec: AudioSpec,
    speakers: list[str],
    *,
    folder: str | None,
    seconds: float,
    seed: int,
    device: torch.device,
) -> list[Piece]:
    """Beginnings of recordings or of held-out demo phrases, in the voice of their own singer where
    the model knows it, else in its voices in turn; the melody is not transposed.

    Args:
        extractors: the model's.
        spec: its framing and mel.
        speakers: its speaker table.
        folder: of recordings; None for phrases of synthetic singers.
        seconds: of audio in all, of `PIECES` pieces or more where recordings are short.
        seed: of phrases and noise.
        device: where the pieces go.

    Raises:
        UserError: there are no recordings, one cannot be read, or the singers have another rate.
    """
    rng = torch.Generator().manual_seed(seed)
    found = []
    for index, sample in enumerate(_beginnings(folder, seconds, seed, spec)):
        speaker = torch.tensor([_speaker(sample, index, speakers)])
        conditioning = conditioning_of(extractors.analyse(sample.audio, spec), speaker, 0.0)
        noise = initial_noise((1, spec.mel_bins, conditioning.frames), rng)
        found.append(Piece(conditioning.to(device), noise.to(device)))
    if not found:
        raise UserError(f"task.seconds={seconds:g} is less than a frame; give a few seconds.")
    return found


def _beginnings(folder: str | None, seconds: float, seed: int, spec: AudioSpec) -> Iterator[Sample]:
    if folder is None:
        enough = PIECES + int(seconds / SHORTEST_PHRASE_S)
        samples = demo_phrases(enough, seed, spec)  # made one by one, as they are asked for
    else:
        samples = recordings(folder, None, spec)
    left = spec.frames(round(seconds * spec.sample_rate_hz))
    longest = -(-left // PIECES)
    for sample in samples:
        frames = min(longest, left, spec.frames(len(sample.audio)))
        if frames == 0:
            return
        yield Sample(sample.group, sample.name, sample.audio[: frames * spec.hop_samples])
        left -= frames


def _speaker(sample: Sample, index: int, speakers: list[str]) -> int:
    """Names of samples begin with their singer's: `alma_alto 3`, `anna/song.wav`."""
    own = [i for i, name in enumerate(speakers) if sample.name.startswith(name)]
    return own[0] if own else index % len(speakers)
