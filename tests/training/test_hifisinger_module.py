import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svc.checkpoints.training_checkpoint import load_trained_state
from svc.errors import UserErrors
from svc.models.conditioner import Conditioner
from svc.models.feature_fuser import FeatureFuser
from svc.models.hifisinger import HifiSinger
from svc.training.adversary import AdversarialOptions, consult
from svc.training.callbacks.samples import ValidationSamples
from svc.training.hifisinger import HifiSingerModule
from svc.training.inputs import rendered_frames, sample_mask
from svc.training.losses.adversarial import (
    discriminator_adversarial_loss,
    generator_adversarial_loss,
)
from svc.training.losses.feature_matching import feature_matching_loss
from svc.training.losses.mel import masked_mel_l1
from svc.training.losses.weights import LossWeights
from svc.training.network_update import NetworkUpdate
from svc.training.randomness import step_generator, step_seed
from svc.training.runs import fit
from svc.training.stopped import TrainingStopped
from training.tiny_training import (
    CONTENT_CHANNELS,
    FACTS,
    FRAMES,
    SPEC,
    TinyData,
    make_batch,
    tiny_discriminators,
    tiny_generator,
    tiny_module,
    tiny_trainer,
)

BROKEN = replace(make_batch(0), energy=torch.full((2, FRAMES), math.nan))


class GradientWatch(Callback):
    """Norms of the gradients that each optimiser steps with, and what the other network has."""

    def __init__(self) -> None:
        self.norms: dict[str, list[float]] = {"generator": [], "discriminator": []}
        self.other_is_clear: list[bool] = []
        self.skipped: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: HifiSingerModule) -> None:
        pairs = [("generator", "discriminator"), ("discriminator", "generator")]
        for optimizer, (name, other) in zip(trainer.optimizers, pairs, strict=True):
            optimizer.register_step_pre_hook(self._watch(pl_module, name, other))

    def _watch(self, module: HifiSingerModule, name: str, other: str) -> Any:
        def look(*_: Any) -> None:
            gradients = [p.grad for p in getattr(module, name).parameters()]
            norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
            self.norms[name].append(float(norm))
            others = getattr(module, other).parameters()
            self.other_is_clear.append(all(p.grad is None for p in others))

        return look

    def on_train_batch_end(self, trainer: Trainer, pl_module: HifiSingerModule, *_: Any) -> None:
        self.skipped.append(pl_module.progress.skipped_steps)


def train(
    run_dir: Path, steps: int, data: TinyData | None = None, **options: Any
) -> tuple[HifiSingerModule, Trainer, GradientWatch]:
    trainer_options = {k: options.pop(k) for k in ("precision", "loggers") if k in options}
    watch = GradientWatch()
    module = tiny_module(**options)
    trainer = tiny_trainer(run_dir, steps, [watch], **trainer_options)
    fit(trainer, module, data or TinyData())
    return module, trainer, watch


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_updates_alternate_are_counted_once_and_are_clipped(tmp_path: Path, precision: str) -> None:
    module, trainer, watch = train(tmp_path, 3, precision=precision, gradient_clip_norm=0.5)
    assert trainer.global_step == 3
    assert len(watch.norms["generator"]) == 3
    assert all(watch.other_is_clear)
    if precision != "16-mixed":  # whose first updates may overflow, which lowers the loss scale
        assert len(watch.norms["discriminator"]) == 3
    # The tiny model's gradients are far above the limit, and a loss scale would show.
    assert watch.norms["generator"] == pytest.approx([0.5] * 3, rel=1e-3)
    assert all(norm <= 0.5 * 1.001 for norm in watch.norms["discriminator"])
    assert all(torch.isfinite(p).all() for p in module.parameters())
    enabled = [update.scaler.is_enabled() for update in module._updates.values()]
    assert enabled == [precision == "16-mixed"] * 2


def test_gradients_equal_those_of_the_losses_taken_one_by_one(tmp_path: Path) -> None:
    """Sharing one pass between both updates changes nothing: the textbook way gives the same."""
    batch, weights = make_batch(5, padded=2), LossWeights()
    module = tiny_module(gradient_clip_norm=1e9, weights=weights)
    found: dict[str, list[Tensor]] = {}

    class Keep(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: HifiSingerModule) -> None:
            for name, optimizer in zip(module.networks, trainer.optimizers, strict=True):
                optimizer.register_step_pre_hook(self._keep(name, getattr(pl_module, name)))

        def _keep(self, name: str, network: nn.Module) -> Any:
            def keep(*_: Any) -> None:
                found[name] = [p.grad.clone() for p in network.parameters()]

            return keep

    data = TinyData()
    data.replace = {0: batch}
    reference = tiny_module()  # the same weights
    fit(tiny_trainer(tmp_path, 1, [Keep()]), module, data)

    seed = step_seed(1, 0, 0)
    generator, discriminator = reference.generator.train(), reference.discriminator.train()
    sung = generator(batch.conditioning(), rng=torch.Generator().manual_seed(seed))
    mask = sample_mask(batch, SPEC)
    fake, real = sung.audio * mask, batch.audio * mask
    with parametrize.cached():  # the spectral norm iterates once for both sides
        real_out, fake_out = discriminator(real), discriminator(fake)
    spectral = reference.spectral_loss(fake, real)
    loss = (
        weights.adversarial * generator_adversarial_loss(fake_out.scores)
        + weights.feature_matching * feature_matching_loss(real_out.features, fake_out.features)
        + weights.mel * spectral.mel
        + weights.stft * spectral.stft
        + weights.bottleneck * masked_mel_l1(sung.mel, batch.mel, batch.lengths_frames)
    )
    wanted = torch.autograd.grad(loss, list(generator.parameters()), retain_graph=True)
    loss = discriminator_adversarial_loss(real_out.scores, fake_out.scores)
    wanted_disc = torch.autograd.grad(loss, list(discriminator.parameters()))
    for name, gradients in (("generator", wanted), ("discriminator", wanted_disc)):
        for got, want in zip(found[name], gradients, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


def test_training_lowers_the_spectral_loss(tmp_path: Path) -> None:
    batch = make_batch(3)
    data = TinyData()
    data.replace = dict.fromkeys(range(20), batch)
    module = tiny_module(scheduler=None)
    before = module.spectral_loss(
        module.generator(batch.conditioning(), rng=1).audio.detach(), batch.audio
    )
    trainer = tiny_trainer(tmp_path, 20, validate_every_steps=100, save_every_steps=100)
    fit(trainer, module, data)
    after = module.spectral_loss(
        module.generator(batch.conditioning(), rng=1).audio.detach(), batch.audio
    )
    assert float(after.mel) < 0.9 * float(before.mel)


def test_nonfinite_step_is_skipped_and_counted(tmp_path: Path) -> None:
    data = TinyData()
    data.replace = {1: BROKEN, 2: BROKEN}
    module, trainer, watch = train(tmp_path, 4, data)
    assert trainer.global_step == 4
    assert data.taken == list(range(6))
    assert watch.skipped == [0, 1, 2, 2, 2, 2]
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert len(watch.norms["generator"]) == len(watch.norms["discriminator"]) == 4


def test_ten_nonfinite_steps_in_a_row_stop_training(tmp_path: Path) -> None:
    data = TinyData()
    data.replace = dict.fromkeys(range(3, 99), BROKEN)
    with pytest.raises(TrainingStopped, match="10 steps in a row") as error:
        train(tmp_path, 30, data)
    assert "after 3 generator updates" in str(error.value)
    assert data.taken == list(range(13))
    _, weights = load_trained_state(tmp_path / "checkpoints" / "last.ckpt")
    assert weights
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_discriminators_join_at_their_start_step(tmp_path: Path) -> None:
    _, trainer, watch = train(tmp_path, 4, adversarial=AdversarialOptions(start_step=3))
    assert trainer.global_step == 4
    assert len(watch.norms["generator"]) == 4
    assert len(watch.norms["discriminator"]) == 1


def test_r1_is_lazy(tmp_path: Path) -> None:
    module = tiny_module(adversarial=AdversarialOptions(r1_weight=1.0, r1_every_steps=3))
    calls: list[int] = []
    module.discriminator.judges[0].register_forward_hook(lambda *_: calls.append(1))
    trainer = tiny_trainer(tmp_path, 4)
    fit(trainer, module, TinyData())
    # Two passes per step, and one more for batches 0 and 3, the last of which was logged.
    assert len(calls) == 4 * 2 + 2
    assert float(trainer.callback_metrics["train_loss_disc/r1"]) > 0


def test_metrics_reach_loggers_under_generator_updates(tmp_path: Path) -> None:
    data = TinyData()
    data.replace = {0: BROKEN}
    logger = CSVLogger(tmp_path, name="", version="")
    train(tmp_path, 6, data, loggers=[logger])
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_step: dict[int, dict[str, str]] = {}
    for row in rows:
        filled = {name: value for name, value in row.items() if value}
        by_step.setdefault(int(row["step"]), {}).update(filled)
    assert sorted(by_step) == [2, 3, 4, 6]  # every 2 updates, and validation at 3 and 6
    for name in (
        "train_loss_gen",
        "train_loss_disc",
        "train_loss_aux",
        "train_loss_gen/mel",
        "train_loss_gen/bottleneck",
        "grad_norm/generator",
        "lr/discriminator",
        "skipped_steps",
        "perf/steps_per_s",
        "perf/audio_s_per_s",
        "perf/data_wait_fraction",
    ):
        assert math.isfinite(float(by_step[4][name])), name
    assert float(by_step[4]["skipped_steps"]) == 1
    assert float(by_step[3]["valid_loss"]) > 0
    assert "valid_loss" not in by_step[4]
    assert float(by_step[4]["perf/data_wait_fraction"]) < 1


def test_validation_uses_the_average_and_every_frame_once(tmp_path: Path) -> None:
    module, trainer, _ = train(tmp_path, 3)
    total, frames = 0.0, 0
    module.eval()
    for index in range(2):
        batch = make_batch(900 + index)
        with torch.no_grad():
            rng = step_generator(torch.device("cpu"), 1, index)
            audio = module.ema.network(batch.conditioning(), rng=rng).audio[:, 0]
        difference = (module.mel(audio) - module.mel(batch.audio[:, 0])).abs().mean(1)
        total, frames = total + float(difference.sum()), frames + difference.numel()
    assert float(trainer.callback_metrics["valid_loss"]) == pytest.approx(total / frames, rel=1e-5)


def test_judge_leaves_no_gradient_in_the_discriminators() -> None:
    module = tiny_module()
    fake = (0.1 * torch.randn(2, 1, 4096)).requires_grad_()
    learnt: list[list[nn.Parameter]] = []
    verdict = consult(
        module.discriminator.judges,
        torch.randn(2, 1, 4096),
        fake,
        generator_loss=lambda adversarial, matching: adversarial + 0 * matching,
        learn=lambda loss, parameters: learnt.append(parameters),
    )
    assert all(p.grad is None for p in module.discriminator.parameters())
    assert sum(len(parameters) for parameters in learnt) == len(
        list(module.discriminator.parameters())
    )
    scores = module.discriminator.eval()(fake).scores
    (slope,) = torch.autograd.grad(generator_adversarial_loss(scores), fake)
    torch.testing.assert_close(verdict.slope, slope, rtol=1e-3, atol=1e-7)


def test_rendered_windows_move_over_the_crop() -> None:
    assert rendered_frames(FRAMES, None, 0) == slice(0, FRAMES)
    assert rendered_frames(FRAMES, 99, 0) == slice(0, FRAMES)
    windows = [rendered_frames(FRAMES, 3, seed) for seed in range(60)]
    assert {w.stop - w.start for w in windows} == {3}
    assert {w.start for w in windows} == set(range(FRAMES - 2))


def test_a_window_is_rendered_and_the_whole_mel_is_learnt(tmp_path: Path) -> None:
    """The bottleneck's loss is that of the whole crop, the waveform's that of the window."""
    heard: list[tuple[int, ...]] = []

    class Listen(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: HifiSingerModule) -> None:
            pl_module.spectral_loss.register_forward_pre_hook(
                lambda _, arguments: heard.extend(tuple(a.shape) for a in arguments)
            )

    module = tiny_module(render_frames=4)
    fit(tiny_trainer(tmp_path, 1, [Listen()]), module, TinyData())
    assert {shape[-1] for shape in heard} == {4 * SPEC.hop_samples}
    batch = make_batch(0)
    conditioning = batch.conditioning()
    whole, part = (
        module.generator(conditioning, rendered=window, rng=0)
        for window in (slice(None), slice(2, 6))
    )
    assert torch.equal(whole.mel, part.mel)
    assert part.audio.shape[-1] == 4 * SPEC.hop_samples


def test_without_a_mel_only_the_waveform_is_judged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = HifiSinger(
        Conditioner(content_channels=CONTENT_CHANNELS, speakers=2, channels=SPEC.mel_bins),
        FeatureFuser(SPEC.mel_bins),
        tiny_generator().decoder,
        level_from_energy=False,
        mel_bottleneck=False,
    )
    module = HifiSingerModule(
        generator,
        tiny_discriminators(),
        SPEC,
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        facts=FACTS,
        seed=1,
    )
    before = {name: p.clone() for name, p in generator.named_parameters()}
    samples = ValidationSamples(tmp_path / "samples", SPEC, count=1)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = tiny_trainer(tmp_path, 3, [samples], loggers=[logger])
    fit(trainer, module, TinyData())
    with (tmp_path / "metrics.csv").open() as file:
        names = set(next(csv.reader(file)))
    assert {"valid_loss", "train_loss_gen/mel", "train_loss_gen/adversarial"} <= names
    assert not any("bottleneck" in name for name in names)
    # The key shift is 0 in this data.
    same = [n for n, p in generator.named_parameters() if torch.equal(p, before[n])]
    assert same == ["conditioner.key_shift.weight"]
    assert (tmp_path / "samples" / "step_000003" / "0_mel.png").is_file()


def test_trainer_with_its_own_loss_scale_is_refused(tmp_path: Path) -> None:
    from lightning.pytorch.plugins import MixedPrecision

    trainer = Trainer(
        accelerator="cpu",
        plugins=[MixedPrecision("16-mixed", "cpu")],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(ValueError, match="build_trainer"):
        fit(trainer, tiny_module(), TinyData())


def test_overflow_lowers_only_the_scale_of_its_network() -> None:
    updates = []
    for gradient in (math.inf, 1.0):
        weight = nn.Parameter(torch.zeros(3))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        update = NetworkUpdate(0.5, "cpu", scale_loss=True)
        scaled = update.scale((weight * gradient).sum())
        scaled.backward()
        result = update.apply(torch.tensor(1.0), optimizer, optimizer.step, bool)
        assert result.scale_overflow == (not result.applied)
        updates.append((result.applied, update.scaler.get_scale(), weight.detach().norm()))
    assert updates[0] == (False, 2.0**15, 0.0)
    assert updates[1][:2] == (True, 2.0**16)
    assert float(updates[1][2]) == pytest.approx(0.5)


def test_nonfinite_loss_is_no_matter_of_the_scale() -> None:
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    update = NetworkUpdate(0.5, "cpu", scale_loss=True)
    loss = (weight * math.nan).sum()
    update.scale(loss).backward()
    result = update.apply(loss, optimizer, optimizer.step, bool)
    assert not result.applied
    assert not result.scale_overflow


def test_options_report_every_fault() -> None:
    with pytest.raises(UserErrors) as error:
        AdversarialOptions(start_step=-1, r1_weight=-1, r1_every_steps=0)
    assert len(error.value.faults) == 3
