"""Sounds and pictures to whichever loggers there are; the one place that knows their ways."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Trainer
from matplotlib.image import imread

from svc.training.file_loggers import RunTensorBoardLogger
from svc.training.validation_sample import ValidationSample
from svc.training.wandb_logger import RunWandbLogger


def log_samples(
    trainer: Trainer, samples: Sequence[ValidationSample], sample_rate_hz: int, step: int
) -> None:
    """Send the samples of a validation to the loggers that can show them (wandb, tensorboard).

    Sounds are `sample/0/target` and `sample/0/prediction`, their mels `sample/0/mel`, and so on;
    on wandb they are in a table besides (`RunWandbLogger.log_samples`).

    Args:
        trainer: holds the loggers.
        samples: in order.
        sample_rate_hz: of all of them.
        step: generator updates so far.
    """
    for logger in trainer.loggers:
        if isinstance(logger, RunWandbLogger):
            logger.log_samples(samples, step)
        elif isinstance(logger, RunTensorBoardLogger):
            with logger.writing():
                for sample in samples:
                    _to_tensorboard(logger, sample, sample_rate_hz, step)


def _to_tensorboard(
    logger: RunTensorBoardLogger, sample: ValidationSample, sample_rate_hz: int, step: int
) -> None:
    name, board = f"sample/{sample.number}", logger.experiment
    board.add_audio(f"{name}/target", sample.target[None], step, sample_rate_hz)
    board.add_audio(f"{name}/prediction", sample.prediction[None], step, sample_rate_hz)
    pixels = np.asarray(imread(sample.mel_png))
    board.add_image(f"{name}/mel", pixels, step, dataformats="HWC")
