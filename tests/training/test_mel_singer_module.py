import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from svc.checkpoints.training_checkpoint import load_trained_state
from svc.training.callbacks.samples import ValidationSamples
from svc.training.losses.mel import mel_l1_sums
from svc.training.randomness import step_generator
from svc.training.runs import fit
from training.test_hifisinger_module import BROKEN
from training.tiny_mel_singer import tiny_module, tiny_singer
from training.tiny_training import SPEC, TinyData, make_batch, tiny_trainer

KINDS = ("diffusion", "flow")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_spares_the_vocoder(
    tmp_path: Path, kind: str, precision: str
) -> None:
    data, batch = TinyData(), make_batch(3)
    data.replace = dict.fromkeys(range(120), batch)
    module = tiny_module(kind)
    before = {k: v.clone() for k, v in module.generator.vocoder.state_dict().items()}

    def loss() -> float:
        rng = torch.Generator().manual_seed(5)
        repeated = batch.conditioning()
        with torch.no_grad():
            losses = [
                module.generator.loss(repeated, batch.mel, batch.lengths_frames, rng=rng).total
                for _ in range(20)
            ]
        return float(torch.stack(losses).mean())

    first = loss()
    trainer = tiny_trainer(
        tmp_path, 120, precision=precision, validate_every_steps=100, save_every_steps=100
    )
    fit(trainer, module, data)
    assert trainer.global_step == 120
    assert loss() < 0.9 * first
    for name, value in module.generator.vocoder.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_and_samples_of_a_validation(tmp_path: Path, kind: str) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    module = tiny_module(kind, sampled_batches=1)
    samples = ValidationSamples(tmp_path / "samples", SPEC, count=3)
    trainer = tiny_trainer(tmp_path, 3, [samples], loggers=[logger])
    fit(trainer, module, TinyData())
    with (tmp_path / "metrics.csv").open() as file:
        found = {name for row in csv.DictReader(file) for name, value in row.items() if value}
    wanted = {"train_loss", "valid_loss", "valid_loss/mel", "grad_norm/generator", "lr/generator"}
    assert wanted <= found
    # Only the first batch, of two crops, was sampled.
    written = sorted(path.name for path in (tmp_path / "samples/step_000003").glob("*.wav"))
    assert written == ["0_prediction.wav", "0_target.wav", "1_prediction.wav", "1_target.wav"]

    average, total, frames = module.ema.network, 0.0, 0
    for index in range(2):
        batch = make_batch(900 + index)
        rng = step_generator(torch.device("cpu"), 1, index)
        with torch.no_grad():
            loss = average.loss(batch.conditioning(), batch.mel, batch.lengths_frames, rng=rng)
            if index == 0:
                mel = average.predict_mel(batch.conditioning(), module.sampler, rng=rng)
                distance, count = mel_l1_sums(mel, batch.mel, batch.lengths_frames)
        total += float(loss.total) * int(batch.lengths_frames.sum())
        frames += int(batch.lengths_frames.sum())
    metrics = trainer.callback_metrics
    assert float(metrics["valid_loss"]) == pytest.approx(total / frames, rel=1e-4)
    assert float(metrics["valid_loss/mel"]) == pytest.approx(float(distance / count), rel=1e-4)


def test_validation_without_samples_is_only_the_loss(tmp_path: Path) -> None:
    module = tiny_module("diffusion", sampled_batches=0)
    trainer = tiny_trainer(tmp_path, 3, [ValidationSamples(tmp_path / "samples", SPEC)])
    fit(trainer, module, TinyData())
    assert "valid_loss/mel" not in trainer.callback_metrics
    assert not (tmp_path / "samples").exists()


def test_nonfinite_step_is_skipped_and_counted(tmp_path: Path) -> None:
    data = TinyData()
    data.replace = {1: BROKEN}
    module = tiny_module("diffusion")
    trainer = tiny_trainer(tmp_path, 3)
    fit(trainer, module, data)
    assert (trainer.global_step, module.progress.skipped_steps) == (3, 1)
    assert all(p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_one_in_one_go(tmp_path: Path, kind: str) -> None:
    whole, first, second = (tiny_module(kind) for _ in range(3))
    fit(tiny_trainer(tmp_path / "whole", 6), whole, TinyData())
    fit(tiny_trainer(tmp_path / "parts", 4), first, TinyData())
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    fit(tiny_trainer(tmp_path / "parts", 6), second, TinyData(), last)
    wanted = whole.state_dict()
    for name, value in second.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, wanted[name]), name


def test_checkpoint_holds_the_vocoder_once(tmp_path: Path) -> None:
    module = tiny_module("diffusion")
    fit(tiny_trainer(tmp_path, 2), module, TinyData())
    path = tmp_path / "checkpoints" / "last.ckpt"
    _, weights = load_trained_state(path)
    nn.Module.load_state_dict(tiny_singer("diffusion"), weights)
    state = torch.load(path, weights_only=True)["state_dict"]
    name = "vocoder.output.bias"
    assert state[f"generator.{name}"].data_ptr() == state[f"ema.network.{name}"].data_ptr()


def test_negative_count_of_sampled_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="sampled_batches=-1"):
        tiny_module("diffusion", sampled_batches=-1)
