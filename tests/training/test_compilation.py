"""Compiled networks learn what the others do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from svc.models.denoiser import MelDenoiser
from svc.models.discriminators import Discriminators
from svc.models.period_discriminator import MultiPeriodDiscriminator, PeriodDiscriminator
from svc.models.scale_discriminator import MultiScaleDiscriminator, ScaleDiscriminator
from svc.models.upsampling_stage import UpsamplingStage
from svc.models.wavenet import WaveNet
from svc.training.callbacks.compilation import CompileNetworks, compiled_parts
from svc.training.losses.gradient_penalty import r1_gradient_penalty
from svc.training.network_module import NetworkModule
from svc.training.runs import fit
from training.tiny_mel_singer import tiny_module as tiny_mel_module
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


@pytest.mark.slow
def test_traced_networks_learn_the_same(tmp_path: Path) -> None:
    """With the compiler's front end alone, which needs no other compiler."""
    plain = learnt(tmp_path / "plain")
    traced = learnt(tmp_path / "traced", CompileNetworks(backend="aot_eager"))
    assert traced.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(traced[name], value, atol=1e-4, rtol=1e-3, msg=name)


def graphs_of(run_dir: Path, module: NetworkModule) -> list[torch.fx.GraphModule]:
    """What two steps of training hand to the compiler."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    fit(tiny_trainer(run_dir, 2, [CompileNetworks(backend=keep)]), module, TinyData())
    return graphs


@pytest.mark.slow
def test_every_discriminator_is_compiled_for_both_sides(tmp_path: Path) -> None:
    module = tiny_module()
    periods, scales = 6, 3
    module.discriminator = Discriminators(
        MultiPeriodDiscriminator(range(2, 2 + periods), channels=[2, 2]),
        MultiScaleDiscriminator(scales, width=1 / 32),
    )
    parts = len(list(compiled_parts(module)))
    assert len(graphs_of(tmp_path, module)) == parts + periods + scales


def test_a_denoiser_is_compiled(tmp_path: Path) -> None:
    module = tiny_mel_module("diffusion")
    assert [type(part) for part in compiled_parts(module)] == [MelDenoiser]
    (graph,) = graphs_of(tmp_path, module)
    layers = module.generator.denoiser.backbone.layers
    convolutions = [node for node in graph.graph.nodes if "conv" in str(node.target)]
    assert len(convolutions) >= 2 * layers


@pytest.mark.parametrize(
    ("setting", "mode"), [(True, "default"), ("max-autotune", "max-autotune-no-cudagraphs")]
)
def test_by_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: bool | str, mode: str
) -> None:
    """Without CUDA graphs, which would overwrite what a step needs later."""
    modes: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: modes.append(options["mode"]))
    module = tiny_module()
    fit(tiny_trainer(tmp_path, 1, compile=setting), module, TinyData())
    assert modes == [mode] * len(list(compiled_parts(module)))
    assert not any(
        isinstance(c, CompileNetworks) for c in tiny_trainer(tmp_path, 1, compile=False).callbacks
    )


def test_the_gradient_penalty_of_compiled_discriminators() -> None:
    """It is differentiated twice, and what is compiled can be only once."""
    torch.manual_seed(0)
    judge = PeriodDiscriminator(3, [2])
    audio = torch.randn(2, 1, 32)

    def slopes() -> list[torch.Tensor]:
        penalty = r1_gradient_penalty(lambda x: [judge(x)[0]], audio)
        return list(torch.autograd.grad(penalty, list(judge.parameters()), allow_unused=True))

    plain = slopes()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    judge.compile(backend="aot_eager", dynamic=False)
    judge(audio)[0].sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    torch.testing.assert_close(slopes(), plain)
