"""Compiled networks learn what the others do."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from svc.models.nsf_hifigan import UpsamplingStage
from svc.models.period_discriminator import PeriodDiscriminator
from svc.models.scale_discriminator import ScaleDiscriminator
from svc.models.wavenet import WaveNet
from svc.training.callbacks.compilation import CompileNetworks, compiled_parts
from svc.training.runs import fit
from training.tiny_training import TinyData, tiny_module, tiny_trainer


def learnt(run_dir: Path, *callbacks: CompileNetworks, steps: int = 3) -> dict[str, torch.Tensor]:
    module = tiny_module()
    fit(tiny_trainer(run_dir, steps, list(callbacks)), module, TinyData())
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def test_what_is_compiled() -> None:
    module = tiny_module()
    kinds = [type(part) for part in compiled_parts(module)]
    assert kinds == [
        WaveNet,
        UpsamplingStage,
        UpsamplingStage,
        PeriodDiscriminator,
        ScaleDiscriminator,
        ScaleDiscriminator,
    ]
    module.generator.decoder.requires_grad_(False)
    assert UpsamplingStage not in [type(part) for part in compiled_parts(module)]


def test_traced_networks_learn_the_same(tmp_path: Path) -> None:
    """With the compiler's front end alone, which needs no other compiler."""
    plain = learnt(tmp_path / "plain")
    traced = learnt(tmp_path / "traced", CompileNetworks(backend="aot_eager"))
    assert traced.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(traced[name], value, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("setting", "mode"), [(True, "default"), ("max-autotune",) * 2])
def test_by_setting(tmp_path: Path, setting: bool | str, mode: str) -> None:
    trainer: Trainer = tiny_trainer(tmp_path, 1, compile=setting)
    (callback,) = (c for c in trainer.callbacks if isinstance(c, CompileNetworks))
    assert callback.mode == mode
    assert not any(
        isinstance(c, CompileNetworks) for c in tiny_trainer(tmp_path, 1, compile=False).callbacks
    )
