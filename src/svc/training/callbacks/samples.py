"""What validation sounds and looks like."""

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from soundfile import LibsndfileError
from torch import Tensor

from svc.audio.io import write_audio
from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.batch import Batch
from svc.errors import UserError
from svc.evaluation.plots import MelRow, plot_mel_comparison
from svc.training.media_logging import log_samples
from svc.training.validation_sample import ValidationSample

_logger = logging.getLogger(__name__)


class ValidationSamples(Callback):
    """Writes the first validation crops, target beside prediction, at every validation.

    Into `folder/step_000123/` go `0_target.wav`, `0_prediction.wav` and `0_mel.png` (target,
    prediction, and the mel at the model's bottleneck where `validation_step` returns one); the same
    goes to the loggers as `sample/0/…`.

    Args:
        folder: of the run's samples.
        audio: sample rate and mel.
        count: crops per validation.
    """

    def __init__(self, folder: str | Path, audio: AudioSpec, count: int = 3) -> None:
        self.folder = Path(folder)
        self.audio = audio
        self.count = count
        self._mel = MelSpectrogram(audio)
        self._written: list[ValidationSample] = []
        self._wanted = count

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._written, self._wanted = [], self.count

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the crops of this batch that are still wanted; `outputs` is that of
        `validation_step`: a dict with audio [B, 1, T] and perhaps mel [B, M, N], or without them
        where this batch was not rendered."""
        if not trainer.is_global_zero or "audio" not in outputs:
            return
        try:
            for item in range(min(len(batch.audio), self._wanted - len(self._written))):
                frames = int(batch.lengths_frames[item])
                if frames == 0:
                    continue
                samples = frames * self.audio.hop_samples
                bottleneck = outputs["mel"][item, :, :frames].cpu() if "mel" in outputs else None
                sample = self._write(
                    trainer.global_step,
                    _speaker_name(pl_module, int(batch.speaker[item])),
                    target=batch.audio[item, 0, :samples].float().cpu(),
                    prediction=outputs["audio"][item, 0, :samples].float().cpu(),
                    bottleneck=bottleneck,
                )
                self._written.append(sample)
        except (OSError, LibsndfileError, UserError, ValueError) as error:
            # Neither a full disk nor a NaN in what is heard need stop the training.
            _logger.warning("Step %d: no samples are written (%s).", trainer.global_step, error)
            self._wanted = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send what was written to the loggers."""
        log_samples(trainer, self._written, self.audio.sample_rate_hz, trainer.global_step)
        self._written = []

    def _write(
        self,
        step: int,
        speaker: str,
        target: Tensor,
        prediction: Tensor,
        bottleneck: Tensor | None,
    ) -> ValidationSample:
        number = len(self._written)
        folder = self.folder / f"step_{step:06d}"
        sample = ValidationSample(
            number,
            speaker,
            target,
            prediction,
            target_wav=folder / f"{number}_target.wav",
            prediction_wav=folder / f"{number}_prediction.wav",
            mel_png=folder / f"{number}_mel.png",
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(sample.target_wav, target, self.audio.sample_rate_hz)
        write_audio(sample.prediction_wav, prediction, self.audio.sample_rate_hz)
        mels = {"target": self._mel(target), "prediction": self._mel(prediction)}
        if bottleneck is not None:
            mels["bottleneck (predicted mel)"] = bottleneck
        rows = [MelRow(title, mel) for title, mel in mels.items()]
        plot_mel_comparison(sample.mel_png, rows, self.audio)
        return sample


def _speaker_name(module: LightningModule, index: int) -> str:
    """As the checkpoint's facts have it; the index where there are none."""
    facts = getattr(module, "facts", None)
    names = facts.speakers if facts is not None else []
    return str(names[index]) if index < len(names) else str(index)
