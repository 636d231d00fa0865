"""RMVPE: pitch of a voice in a mixture, from a mel, by a trained network."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from svc.checkpoints.layouts.rmvpe import load_rmvpe
from svc.checkpoints.weights import weights_file
from svc.errors import UserError
from svc.features.pitch.base import Pitch, PitchTracker
from svc.features.pitch.contour import check_range, checked_samples, on_frames, pitch_of
from svc.features.pitch.precision import Precision, precision_dtype
from svc.features.pitch.salience import HIGHEST_HZ, bins_in_range, hz_near
from svc.hashing import file_sha256
from svc.models.rmvpe import MEL_BINS, PITCH_BINS, Rmvpe

RATE_HZ = 16_000
_HOP_SAMPLES = 160
_WINDOW_SAMPLES = 1024
_LOG_FLOOR = 1e-5
_CONTEXT_FRAMES = 128
"""Added on both sides of a piece that is cut out of a longer recording; 1.28 s."""
_INAUDIBLE = 1e-7
"""Of what varies by less, no bin of the mel would rise above its floor."""


class RmvpePitch(PitchTracker):
    """F0 by RMVPE, robust against accompaniment, reverberation and noise.

    Wei et al., "RMVPE: A Robust Model for Vocal Pitch Estimation in Polyphonic Music" (Interspeech
    2023), with the mel and the decoding of the published `rmvpe.pt`: 100 frames a second at 16 kHz,
    of 128 mel bins; F0 is the mean of the nine bins around the strongest, weighted by salience.

    Recordings longer than `chunk_s` are computed in pieces that see 1.28 s of their neighbours, so
    that memory stays bounded; shorter ones go through the network in one, as published.

    Args:
        model: path of `rmvpe.pt` or of the same weights as safetensors; by default the file is
            looked for in the folder of checkpoints, and fetched unless `offline`.
        f0_min_hz, f0_max_hz: range that is searched, at most 31.7 to 2005 Hz.
        threshold: salience (0 to 1) above which a frame is voiced.
        precision: of the convolutions: "fp32"; "bf16"; or "auto", bf16 where the CPU or GPU has
            arithmetic for it.
        device: where the network runs.
        chunk_s: seconds that are computed in one piece, at least 1.
        batch_size: pieces of a long recording that are computed at once; a GPU also takes short
            recordings together, as many as last `batch_size * chunk_s` seconds.
        offline: never fetch weights.

    Raises:
        UserError: a value is out of range, or the weights are not there or are not RMVPE's.
    """

    def __init__(
        self,
        model: str | None = None,
        f0_min_hz: float = 40.0,
        f0_max_hz: float = 1600.0,
        threshold: float = 0.03,
        precision: Precision = "fp32",
        device: str = "cpu",
        chunk_s: float = 30.0,
        batch_size: int = 1,
        offline: bool = False,
    ) -> None:
        check_range(f0_min_hz, f0_max_hz, HIGHEST_HZ)
        if not 0 < threshold < 1:
            raise UserError(f"pitch.threshold={threshold:g} must lie between 0 and 1.")
        if chunk_s < 1:
            raise UserError(f"pitch.chunk_s={chunk_s:g} must be at least 1 second.")
        if batch_size < 1:
            raise UserError(f"pitch.batch_size={batch_size} must be at least 1.")
        self._file = weights_file(
            "rmvpe",
            model,
            offline=offline,
            setting="pitch.model",
            alternatives="pitch=parselmouth, pitch=crepe and pitch=crepe_tiny need no download",
        )
        self.f0_min_hz = f0_min_hz
        self.f0_max_hz = f0_max_hz
        self.threshold = threshold
        self.device = device
        self._dtype = precision_dtype(precision, device)
        self._chunk_frames = round(chunk_s * RATE_HZ / _HOP_SAMPLES)
        self._batch_size = batch_size
        self._network  # noqa: B018  (wrong weights are named before any work begins)

    def track(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> Pitch:
        """audio [T] float32 -> contour of N = T // hop_samples frames, on the CPU.

        Raises:
            ValueError: audio is not one-dimensional or not finite.
        """
        mel, frames = self._heard(audio, sample_rate_hz, hop_samples)
        salience = self.salience(mel) if mel.shape[1] else mel.T
        return self._contour(salience, frames, hop_samples / sample_rate_hz)

    def track_batch(
        self, audios: Sequence[Tensor], sample_rate_hz: int, hop_samples: int
    ) -> list[Pitch]:
        """As `track`; a GPU takes several pieces through the network together."""
        if torch.device(self.device).type == "cpu":  # as fast, and the same to the bit
            return super().track_batch(audios, sample_rate_hz, hop_samples)
        heard = [self._heard(audio, sample_rate_hz, hop_samples) for audio in audios]
        saliences = self.saliences([mel for mel, _ in heard])
        hop_s = hop_samples / sample_rate_hz
        return [
            self._contour(salience, frames, hop_s)
            for salience, (_, frames) in zip(saliences, heard, strict=True)
        ]

    @torch.inference_mode()
    def salience(self, mel: Tensor) -> Tensor:
        """Log mel [128, N] -> salience [N, 360] in 0…1, on the CPU."""
        frames = mel.shape[1]
        if frames <= self._chunk_frames:
            return self._pass(mel[None])[0]
        starts = range(0, frames, self._chunk_frames)
        # All pieces are equally long, so that they can be computed at once.
        length = self._chunk_frames + 2 * _CONTEXT_FRAMES
        firsts = [max(0, min(start - _CONTEXT_FRAMES, frames - length)) for start in starts]
        length = min(length, frames)
        rows = []
        for at in range(0, len(starts), self._batch_size):
            batch = slice(at, at + self._batch_size)
            pieces = torch.stack([mel[:, first : first + length] for first in firsts[batch]])
            for start, first, piece in zip(
                starts[batch], firsts[batch], self._pass(pieces), strict=True
            ):
                rows.append(piece[start - first :][: min(self._chunk_frames, frames - start)])
        return torch.cat(rows)

    @torch.inference_mode()
    def saliences(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """Log mels [128, N], N from 0 -> salience [N, 360] of each, on the CPU.

        Those up to `chunk_s` go through the network together: each is continued as it would be
        alone, and nothing of one reaches another.
        """
        results = [mel.new_zeros(0, PITCH_BINS) for mel in mels]
        for batch in self._passes([mel.shape[1] for mel in mels]):
            if len(batch) == 1:
                results[batch[0]] = self.salience(mels[batch[0]])
                continue
            continued = [self._continued(mels[i]) for i in batch]
            lengths = [mel.shape[1] for mel in continued]
            padded = nn.utils.rnn.pad_sequence([mel.T for mel in continued], batch_first=True)
            output = self._network(padded.transpose(1, 2).to(self.device), lengths).float().cpu()
            for i, rows in zip(batch, output, strict=True):
                results[i] = rows[: mels[i].shape[1]]
        return results

    def _passes(self, frames: Sequence[int]) -> Iterator[list[int]]:
        """The pieces that have frames, by length, in groups of a bounded number of frames."""
        batch: list[int] = []
        for i in sorted((i for i in range(len(frames)) if frames[i]), key=lambda i: frames[i]):
            if batch and (len(batch) + 1) * frames[i] > self._batch_size * self._chunk_frames:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _heard(self, audio: Tensor, sample_rate_hz: int, hop_samples: int) -> tuple[Tensor, int]:
        """Log mel [128, N'], of no frames where nothing is heard, and the number of frames N."""
        samples, frames = checked_samples(audio, hop_samples)
        if not frames or np.ptp(samples) < _INAUDIBLE:
            return torch.zeros(MEL_BINS, 0), frames
        at_16_khz = soxr.resample(samples.astype(np.float32), sample_rate_hz, RATE_HZ)
        return self._mel(torch.from_numpy(at_16_khz)), frames

    def _contour(self, salience: Tensor, frames: int, hop_s: float) -> Pitch:
        raw = self.decode(salience) if salience.shape[0] else np.zeros(0)
        f0_hz, _ = on_frames(raw, _HOP_SAMPLES / RATE_HZ, 0.0, frames, hop_s)
        return pitch_of(f0_hz, self.f0_min_hz, self.f0_max_hz)

    def decode(self, salience: Tensor) -> NDArray[np.float64]:
        """Salience [N, 360] -> F0 [N] in Hz, 0 where it is unvoiced.

        The strongest bin within the range that is searched decides, and so does its salience.
        """
        searched = bins_in_range(self.f0_min_hz, self.f0_max_hz)
        strongest, peak = salience[:, searched].max(dim=1)
        f0_hz = hz_near(salience, peak + searched.start)
        contour: NDArray[np.float64] = torch.where(strongest > self.threshold, f0_hz, 0.0).numpy()
        return contour

    def identity(self) -> dict[str, str]:
        """The hash of the weights, and the arithmetic, which precision=auto leaves open."""
        digest = file_sha256(self._file)
        return {"weights_sha256": digest, "arithmetic": str(self._dtype).removeprefix("torch.")}

    def _pass(self, mel: Tensor) -> Tensor:
        """mel [B, 128, N] -> [B, N, 360], one pass of the network."""
        output: Tensor = self._network(self._continued(mel).to(self.device))
        return output[:, : mel.shape[-1]].float().cpu()

    def _continued(self, mel: Tensor) -> Tensor:
        """[..., N] reflected at its end to a multiple of what the network halves."""
        frames, multiple = mel.shape[-1], self._network.size.frame_multiple
        return mel[..., _reflected(frames, -(-frames // multiple) * multiple)]

    @cached_property
    def _mel(self) -> "RmvpeMel":
        return RmvpeMel()

    @cached_property
    def _network(self) -> Rmvpe:
        return load_rmvpe(self._file).for_inference(self._dtype).to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """Workers read the weights themselves: they are larger than their path."""
        state = self.__dict__.copy()
        state.pop("_network", None)
        state.pop("_mel", None)
        return state


class RmvpeMel(nn.Module):
    """The log mel that RMVPE was trained on.

    16 kHz, centred Hann windows of 1024 samples every 160, reflected at the ends; magnitude; 128
    bins from 30 to 8000 Hz on the HTK scale with Slaney's normalisation; natural logarithm, floor
    1e-5. (The toolkit's own mel is another one: not centred, and Slaney's scale.)
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = melscale_fbanks(
            n_freqs=_WINDOW_SAMPLES // 2 + 1,
            f_min=30.0,
            f_max=RATE_HZ / 2,
            n_mels=MEL_BINS,
            sample_rate=RATE_HZ,
            norm="slaney",
            mel_scale="htk",
        )
        self.register_buffer("window", torch.hann_window(_WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """audio [T] at 16 kHz, T >= 1 -> [128, 1 + T // 160], frame i centred on sample 160 i."""
        half = _WINDOW_SAMPLES // 2
        samples = audio.shape[0]
        frames = 1 + samples // _HOP_SAMPLES
        if samples <= half:  # too short to be reflected that far
            audio = nn.functional.pad(audio, (0, half + 1 - samples))
        spectrum = torch.stft(
            audio,
            n_fft=_WINDOW_SAMPLES,
            hop_length=_HOP_SAMPLES,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        mel = self.filters @ spectrum[:, :frames].abs()
        return mel.clamp_min(_LOG_FLOOR).log()


def _reflected(length: int, padded: int) -> Tensor:
    """Indices [padded] that run to the end of `length` frames and back, as often as needed."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(padded) % period
    return torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index)
