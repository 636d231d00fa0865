"""Sounds and pictures to whichever loggers there are; the one place that knows their ways."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from matplotlib.image import imread
from torch import Tensor


def log_audio(trainer: Trainer, name: str, audio: Tensor, sample_rate_hz: int, step: int) -> None:
    """Send a sound to the loggers that play sounds (wandb, tensorboard).

    Args:
        trainer: holds the loggers.
        name: such as "sample/0/target".
        audio: [T] in [-1, 1], CPU.
        sample_rate_hz: of `audio`.
        step: generator updates so far.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_audio(name, [audio.float().numpy()], step=step, sample_rate=[sample_rate_hz])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_audio(name, audio.float()[None], step, sample_rate_hz)


def log_image(trainer: Trainer, name: str, path: Path, step: int) -> None:
    """Send a PNG file to the loggers that show pictures (wandb, tensorboard).

    Args:
        trainer: holds the loggers.
        name: such as "sample/0/mel".
        path: of the file.
        step: generator updates so far.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(imread(path))
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")
