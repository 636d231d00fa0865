"""What validation sounds and looks like."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from svc.audio.io import write_audio
from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.data.batch import Batch
from svc.evaluation.plots import MelRow, plot_mel_comparison
from svc.training.media_logging import log_audio, log_image


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
        self._written = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._written = 0

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
        for item in range(min(len(batch.audio), self.count - self._written)):
            frames = int(batch.lengths_frames[item])
            samples = frames * self.audio.hop_samples
            if frames == 0:
                continue
            self._write(
                trainer,
                target=batch.audio[item, 0, :samples].float().cpu(),
                prediction=outputs["audio"][item, 0, :samples].float().cpu(),
                bottleneck=outputs["mel"][item, :, :frames].cpu() if "mel" in outputs else None,
            )
            self._written += 1

    def _write(
        self, trainer: Trainer, target: Tensor, prediction: Tensor, bottleneck: Tensor | None
    ) -> None:
        step, number = trainer.global_step, self._written
        folder = self.folder / f"step_{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, audio in (("target", target), ("prediction", prediction)):
            write_audio(folder / f"{number}_{name}.wav", audio, self.audio.sample_rate_hz)
            log_audio(trainer, f"sample/{number}/{name}", audio, self.audio.sample_rate_hz, step)
        mels = {"target": self._mel(target), "prediction": self._mel(prediction)}
        if bottleneck is not None:
            mels["bottleneck (predicted mel)"] = bottleneck
        path = folder / f"{number}_mel.png"
        plot_mel_comparison(path, [MelRow(title, mel) for title, mel in mels.items()], self.audio)
        log_image(trainer, f"sample/{number}/mel", path, step)
