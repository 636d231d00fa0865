"""A HiFiSinger, discriminators and data small enough to train in a second; also a process to kill.

python tiny_training.py RUN_DIR MAX_STEPS [CHECKPOINT]
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Dataset

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.data.batch import Batch
from svc.data.sampling import CropSampler
from svc.models.conditioner import Conditioner
from svc.models.discriminators import Discriminators
from svc.models.hifisinger import HifiSinger
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator
from svc.models.wavenet import WaveNet
from svc.training.callbacks.checkpoints import LastAndBestCheckpoints
from svc.training.callbacks.throughput import Throughput
from svc.training.hifisinger import HifiSingerModule
from svc.training.losses.spectral import MultiResolutionSpectralLoss, Resolution
from svc.training.runs import fit
from svc.training.schedules import exponential_decay
from svc.training.trainer import build_trainer

SPEC = AudioSpec(mel_bins=16)
FRAMES = 8
CONTENT_CHANNELS = 4
BATCHES_PER_EPOCH = 5

FACTS = CheckpointFacts(
    config={"arch": {"name": "hifisinger", "sizes": [8, 8]}, "seed": 1, "resume": None},
    audio=SPEC,
    features={"content": {"kind": "mfcc"}},
    feature_fingerprint="0123456789abcdef",
    speakers=["ada", "ben"],
    content_channels=CONTENT_CHANNELS,
)


def tiny_decoder() -> NsfHifiGan:
    """Hop 512."""
    return NsfHifiGan(
        mel_bins=SPEC.mel_bins,
        initial_channels=8,
        upsample_rates=(16, 32),
        upsample_kernels=(16, 32),
        resblock_kernels=(3,),
        resblock_dilations=((1,),),
        harmonics=2,
    )


def tiny_generator() -> HifiSinger:
    """About a thousand parameters, hop 512."""
    return HifiSinger(
        Conditioner(content_channels=CONTENT_CHANNELS, speakers=2, channels=4),
        WaveNet(4, 4, channels=4, layers=2, out_channels=4),
        tiny_decoder(),
    )


def tiny_discriminators() -> Discriminators:
    """One period and two scales."""
    return Discriminators(
        MultiPeriodDiscriminator(periods=[3], channels=[4, 4]),
        MultiScaleDiscriminator(scales=2, width=1 / 32),
    )


def tiny_module(generator: HifiSinger | None = None, **options: Any) -> HifiSingerModule:
    """The same weights at every call, but for those of a generator that is given."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "optimizer": partial(torch.optim.AdamW, lr=1e-3, betas=[0.8, 0.99]),
        "scheduler": partial(exponential_decay, gamma=0.5, every_steps=4),
        "spectral_loss": MultiResolutionSpectralLoss(
            SPEC, [Resolution(1024, 256, 16), Resolution(512, 128, 12)]
        ),
        "facts": FACTS,
        "seed": 1,
    }
    generator = generator or tiny_generator()
    return HifiSingerModule(generator, tiny_discriminators(), SPEC, **{**defaults, **options})


def make_batch(seed: int, size: int = 2, frames: int = FRAMES, padded: int = 0) -> Batch:
    """Random tones; the last `padded` frames of the last item are padding."""
    random = torch.Generator().manual_seed(seed)
    f0_hz = 100 + 400 * torch.rand(size, 1, generator=random).expand(size, frames)
    time_s = torch.arange(frames * SPEC.hop_samples) / SPEC.sample_rate_hz
    audio = 0.3 * torch.sin(2 * torch.pi * f0_hz[:, :1] * time_s)
    audio = audio + 0.01 * torch.randn(audio.shape, generator=random)
    lengths = torch.full((size,), frames)
    if padded:
        lengths[-1] -= padded
        audio[-1, -padded * SPEC.hop_samples :] = 0
    return Batch(
        content=torch.randn(size, frames, CONTENT_CHANNELS, generator=random),
        f0_hz=f0_hz.contiguous(),
        voiced=torch.ones(size, frames, dtype=torch.bool),
        energy=torch.full((size, frames), 0.2),
        mel=MelSpectrogram(SPEC)(audio),
        audio=audio[:, None],
        lengths_frames=lengths,
        speaker=torch.arange(size) % 2,
        key_shift_semitones=torch.zeros(size),
    )


class _Batches(Dataset[Batch]):
    """Batch k depends on k alone."""

    def __getitem__(self, index: int) -> Batch:
        return make_batch(index)


def _only(batches: list[Batch]) -> Batch:
    return batches[0]


class TinyData(lightning.LightningDataModule):
    """Batches in a running order, with the position kept as the real data module keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches_seen = 0
        self.taken: list[int] = []
        self.replace: dict[int, Batch] = {}

    def train_dataloader(self) -> DataLoader[Batch]:
        self.sampler = CropSampler(1, BATCHES_PER_EPOCH)
        self.sampler.position = self.batches_seen
        return DataLoader(_Batches(), batch_sampler=self.sampler, collate_fn=_only)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader([make_batch(900), make_batch(901)], batch_size=1, collate_fn=_only)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if not self.trainer.training:
            return batch
        index = self.batches_seen
        self.taken.append(index)
        self.batches_seen += 1
        self.sampler.position = self.batches_seen
        return self.replace.get(index, batch)

    def state_dict(self) -> dict[str, Any]:
        return {"batches_seen": self.batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches_seen = state_dict["batches_seen"]


def tiny_trainer(
    run_dir: Path,
    max_steps: int,
    callbacks: list[Callback] | None = None,
    validate_every_steps: int = 3,
    save_every_steps: int = 2,
    **options: Any,
) -> Trainer:
    """A trainer with the real callbacks that matter for checkpoints."""
    return build_trainer(
        run_dir=run_dir,
        accelerator="cpu",
        max_steps=max_steps,
        validate_every_steps=validate_every_steps,
        log_every_steps=2,
        callbacks=[
            LastAndBestCheckpoints(run_dir / "checkpoints", every_steps=save_every_steps),
            Throughput(),
            *(callbacks or []),
        ],
        **options,
    )


class _PrintSteps(Callback):
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        print(trainer.global_step, flush=True)


def main() -> None:
    """Train, saying every step, until done or killed."""
    torch.set_num_threads(1)
    run_dir, max_steps = Path(sys.argv[1]), int(sys.argv[2])
    resume_from = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    fit(tiny_trainer(run_dir, max_steps, [_PrintSteps()]), tiny_module(), TinyData(), resume_from)


if __name__ == "__main__":
    main()
