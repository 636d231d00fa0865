"""Training a vocoder from audio alone, and practising an F0 that is not the mel's."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from svc.checkpoints.training_checkpoint import load_trained_state
from svc.errors import UserError, UserErrors
from svc.models.discriminators import Discriminators
from svc.models.griffin_lim import GriffinLim
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.period_discriminator import MultiPeriodDiscriminator
from svc.models.spectrogram_discriminator import MultiResolutionSpectrogramDiscriminator
from svc.training.losses.mel import masked_mel_l1
from svc.training.losses.spectral import MultiResolutionSpectralLoss, Resolution
from svc.training.pitch_decoupling import PitchDecoupling, mel_of_shifted_copy
from svc.training.runs import fit
from svc.training.vocoder import VocoderModule
from training.tiny_training import (
    FACTS,
    FRAMES,
    SPEC,
    TinyData,
    make_batch,
    tiny_generator,
    tiny_trainer,
)


def module_of(**options: Any) -> VocoderModule:
    """The same weights at every call."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "optimizer": partial(torch.optim.AdamW, lr=1e-3),
        "spectral_loss": MultiResolutionSpectralLoss(SPEC, [Resolution(1024, 256, 16)]),
        "facts": FACTS,
        "seed": 1,
    }
    judges = Discriminators(
        MultiPeriodDiscriminator(periods=[3], channels=[4, 4]),
        spectrograms=MultiResolutionSpectrogramDiscriminator([(512, 128, 512)], channels=4),
    )
    return VocoderModule(tiny_generator().decoder, judges, SPEC, **{**defaults, **options})


class Watched(nn.Module):
    """A vocoder that writes down what it is given."""

    def __init__(self, vocoder: NsfHifiGan) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.mel_bins, self.hop_samples = vocoder.mel_bins, vocoder.hop_samples
        self.mels: list[Tensor] = []
        self.f0s: list[Tensor] = []
        self.with_gradient: list[bool] = []

    def forward(self, mel: Tensor, f0_hz: Tensor, voiced: Tensor, **options: Any) -> Tensor:
        self.mels.append(mel)
        self.f0s.append(f0_hz)
        self.with_gradient.append(torch.is_grad_enabled())
        audio: Tensor = self.vocoder(mel, f0_hz, voiced, **options)
        return audio


def watched_module(**options: Any) -> tuple[VocoderModule, Watched, Watched]:
    """A module, its generator and its averaged generator."""
    module = module_of(**options)
    trained, averaged = Watched(module.generator), Watched(module.ema.network)
    return module, trained, averaged


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_trains_validates_and_its_checkpoint_loads(tmp_path: Path, precision: str) -> None:
    module = module_of(pitch_decoupling=PitchDecoupling(probability=0.5))
    before = [p.detach().clone() for p in module.generator.parameters()]
    trainer = tiny_trainer(tmp_path, 4, precision=precision)
    fit(trainer, module, TinyData())
    assert trainer.global_step == 4
    changed = [
        not torch.equal(a, b) for a, b in zip(before, module.generator.parameters(), strict=True)
    ]
    assert all(changed)
    assert math.isfinite(float(trainer.callback_metrics["valid_loss"]))
    facts, weights = load_trained_state(tmp_path / "checkpoints" / "last.ckpt")
    assert facts == FACTS
    tiny_generator().decoder.load_state_dict(weights)


def test_the_validation_loss_is_the_mel_distance_of_the_averaged_generator(tmp_path: Path) -> None:
    module = module_of()
    batch = make_batch(900, padded=3)
    module._valid_sums = torch.zeros(2)
    output = module.validation_step(batch, 0)
    distance, frames = module._valid_sums
    lengths = batch.lengths_frames
    mask = torch.arange(FRAMES * 512) < 512 * lengths[:, None]
    wanted = masked_mel_l1(
        module.mel(output["audio"][:, 0] * mask), module.mel(batch.audio[:, 0] * mask), lengths
    )
    assert float(distance / frames) == pytest.approx(float(wanted), rel=1e-5)
    assert float(output["audio"][-1, 0, -3 * 512 :].abs().max()) == 0


def test_a_copy_is_made_at_the_shifted_f0_without_gradient(tmp_path: Path) -> None:
    options = PitchDecoupling(probability=1.0, max_semitones=5.0)
    module, _, averaged = watched_module(pitch_decoupling=options)
    module.ema.network = averaged
    batch = make_batch(3)
    _, semitones = options.draw(2, seed=11)
    rng = torch.Generator().manual_seed(0)
    mel = module._mel(batch, slice(0, FRAMES), 11, rng)
    (f0_hz,), (grad,) = averaged.f0s, averaged.with_gradient
    torch.testing.assert_close(f0_hz, batch.f0_hz * 2 ** (semitones[:, None] / 12))
    assert semitones.abs().min() > 0.01
    assert not grad
    assert not mel.requires_grad
    copy = averaged.vocoder(batch.mel, f0_hz, batch.voiced, rng=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mel, module.mel(copy[:, 0].detach()))


def test_the_generator_shifts_the_copy_back_to_the_recording(tmp_path: Path) -> None:
    """It is given the copy's mel with the recording's F0, and is judged by the recording."""
    module, trained, averaged = watched_module(pitch_decoupling=PitchDecoupling(1.0, 5.0))
    module.generator, module.ema.network = trained, averaged
    learnt: list[Any] = []
    module.learn = learnt.append  # type: ignore[method-assign]
    module.step_seed = lambda: 11  # type: ignore[method-assign]
    batch = make_batch(3)
    module.training_step(batch, 0)
    (mel,), (f0_hz,), (rendering,) = trained.mels, trained.f0s, learnt
    assert torch.equal(f0_hz, batch.f0_hz)
    assert float((mel - batch.mel).abs().mean()) > 0.01
    assert torch.equal(rendering.recorded, batch.audio)
    rendering.audio.square().sum().backward()
    assert all(p.grad is not None for p in trained.parameters() if p.requires_grad)
    assert all(p.grad is None for p in averaged.parameters())


def test_a_window_of_a_copy_has_its_neighbours(tmp_path: Path) -> None:
    """Cut out of the copy's mel; a copy of the window alone would be mirrored at its ends."""
    module = module_of(pitch_decoupling=PitchDecoupling(1.0), render_frames=2)
    batch = make_batch(3, padded=4)
    start, stop = 1, 7
    mel = module._mel(batch, slice(3, 5), 11, torch.Generator().manual_seed(0))
    _, semitones = module.pitch_decoupling.draw(2, seed=11)
    whole = mel_of_shifted_copy(
        module.ema.network,
        module.mel,
        batch.mel[..., start:stop],
        batch.f0_hz[:, start:stop],
        batch.voiced[:, start:stop],
        semitones,
        torch.Generator().manual_seed(0),
    )
    assert torch.equal(mel[0], whole[0, :, 2:4])
    assert torch.equal(mel[1, :, 0], whole[1, :, 2])
    torch.testing.assert_close(mel[1, :, 1], torch.full((16,), math.log(1e-5)))  # padding


def test_without_it_the_mel_is_the_recordings(tmp_path: Path) -> None:
    module, _, averaged = watched_module()
    module.ema.network = averaged
    batch = make_batch(3)
    assert torch.equal(module._mel(batch, slice(2, 5), 1, torch.Generator()), batch.mel[..., 2:5])
    assert not averaged.mels


def test_the_share_of_copies_is_as_asked_and_their_shifts_are_in_range() -> None:
    chosen, semitones = PitchDecoupling(0.25, 4.0).draw(10_000, seed=3)
    assert float(chosen.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(semitones.abs().max()) <= 4.0
    assert float(semitones.std()) == pytest.approx(4.0 / math.sqrt(3), rel=0.03)


def test_what_cannot_learn_is_refused() -> None:
    discriminator = Discriminators(MultiPeriodDiscriminator([3], [4]))
    adam = torch.optim.Adam
    with pytest.raises(UserError, match=r"GriffinLim has no weights.*vocoder=nsf_hifigan"):
        VocoderModule(GriffinLim(mel_bins=16), discriminator, SPEC, optimizer=adam)
    with pytest.raises(UserError, match=r"16 bins with a hop of 512.*mel_bins=20"):
        VocoderModule(
            tiny_generator().decoder, discriminator, replace(SPEC, mel_bins=20), optimizer=adam
        )
    with pytest.raises(UserErrors, match=r"(?s)probability=1.5.*max_semitones=0.0"):
        PitchDecoupling(1.5, 0.0)
