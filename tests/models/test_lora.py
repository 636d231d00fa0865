"""Low-rank adaptation: nothing changes before the first step, only updates learn, and merging gives
what was trained."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.mel_singers import conditioning, random_mel, tiny_diffsvc, tiny_parts, tiny_vocoder
from svc.diffusion.samplers.ddim import Ddim
from svc.models.hifisinger import HifiSinger
from svc.models.lora import add_lora, merged_lora_state, split_lora_state
from svc.models.wavenet import WaveNet
from svc.training.ema import ExponentialMovingAverage


def tiny_hifisinger() -> HifiSinger:
    conditioner = tiny_parts()["conditioner"]
    return HifiSinger(conditioner, WaveNet(8, 8, 8, 2, 2, out_channels=8), tiny_vocoder())


SINGERS = [
    pytest.param(tiny_hifisinger, id="hifisinger"),
    pytest.param(tiny_diffsvc, id="diffsvc"),
]


@torch.no_grad()
def mel_of(singer: Any) -> Tensor:
    inputs = conditioning(2, 6)
    if isinstance(singer, HifiSinger):
        return singer.eval().predict_mel(inputs)
    noise = random_mel(2, 6, seed=5)
    mel: Tensor = singer.eval().predict_mel(inputs, Ddim(steps=3), noise=noise)
    return mel


def loss_of(singer: Any) -> Tensor:
    if isinstance(singer, HifiSinger):
        return (singer.predict_mel(conditioning(2, 6)) - random_mel(2, 6)).square().mean()
    rng = torch.Generator().manual_seed(1)
    lengths = torch.tensor([6, 4])
    loss: Tensor = singer.loss(conditioning(2, 6), random_mel(2, 6), lengths, rng).total
    return loss


def freeze_all_but_updates(singer: nn.Module) -> None:
    for name, parameter in singer.named_parameters():
        parameter.requires_grad_(name.endswith((".up", ".down")))


def learn(singer: nn.Module, steps: int = 3) -> None:
    freeze_all_but_updates(singer)
    parameters = [p for p in singer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(singer).backward()
        optimizer.step()


@pytest.mark.parametrize("make", SINGERS)
def test_nothing_changes_before_the_first_step(make: Any) -> None:
    plain, adapted = make(), make()
    adapted.load_state_dict(plain.state_dict())
    before = mel_of(plain)
    add_lora(adapted, 4)
    assert torch.equal(mel_of(adapted), before)


@pytest.mark.parametrize("make", SINGERS)
def test_every_update_learns_and_the_trained_weights_stay_to_the_bit(make: Any) -> None:
    singer = make()
    before = copy.deepcopy(singer.state_dict())
    names = add_lora(singer, 4)
    assert {name.partition(".")[0] for name in names} < {"conditioner", "backbone", "denoiser"}
    linear = {n for n, m in singer.named_modules() if isinstance(m, nn.Linear | nn.Conv1d)}
    elsewhere = {n for n in linear if n.startswith(("decoder", "vocoder", "mel_projection"))}
    assert set(names) == {f"{name}.weight" for name in linear - elsewhere}

    learn(singer)
    after, deltas = split_lora_state(singer.state_dict())
    assert all(value.equal(before[name]) for name, value in after.items())
    assert set(deltas) == set(names)
    assert after.keys() == before.keys()
    assert all(delta.up.any() for delta in deltas.values())


@pytest.mark.parametrize("make", SINGERS)
def test_a_merged_state_is_that_of_a_plain_singer_and_sings_the_same(make: Any) -> None:
    plain, adapted = make(), make()
    untrained = mel_of(adapted)
    names = add_lora(adapted, 4, alpha=6)
    learn(adapted)
    state = adapted.state_dict()
    merged = merged_lora_state(state)
    before, updates = split_lora_state(state)
    assert updates
    assert split_lora_state(merged) == (merged, {})
    assert {name for name in merged if not merged[name].equal(before[name])} == set(names)
    plain.load_state_dict(merged)
    assert torch.equal(mel_of(plain), mel_of(adapted))
    assert not torch.allclose(mel_of(plain), untrained, atol=1e-3)


def test_the_update_is_the_scaled_product() -> None:
    layers = nn.Sequential(nn.Conv1d(6, 4, 3))
    original = layers[0].weight.detach().clone()
    assert add_lora(layers, 2, alpha=3.0, targets=["0"]) == ["0.weight"]
    update = layers[0].parametrizations.weight[0]
    nn.init.normal_(update.up)
    assert update.up.shape == (4, 2)
    assert update.down.shape == (2, 18)
    expected = original + 1.5 * (update.up @ update.down).view(4, 6, 3)
    torch.testing.assert_close(layers[0].weight, expected)
    _, deltas = split_lora_state(layers.state_dict())
    half = deltas["0.weight"].added_to(original, factor=0.5)
    torch.testing.assert_close(half, (original + expected) / 2)


def test_the_rank_is_cut_to_the_shorter_side_and_the_scale_is_not() -> None:
    singer = tiny_hifisinger()
    add_lora(singer, 6, alpha=3.0)
    _, deltas = split_lora_state(singer.state_dict())
    energy, block = deltas["conditioner.energy.weight"], deltas["backbone.blocks.0.dilated.weight"]
    assert energy.up.shape == (8, 1)
    assert energy.down.shape == (1, 1)
    assert block.up.shape == (16, 6)
    assert block.down.shape == (6, 24)
    assert energy.scale == block.scale == 0.5


@pytest.mark.parametrize("make", SINGERS)
def test_it_lives_under_a_moving_average_and_in_a_state_dict(make: Any) -> None:
    singer = make()
    add_lora(singer, 4)
    freeze_all_but_updates(singer)
    average = ExponentialMovingAverage(singer, decay=0.5)
    for _ in range(2):
        learn(singer, 1)
        average.update(singer)
    _, trained = split_lora_state(singer.state_dict())
    _, averaged = split_lora_state(average.network.state_dict())
    assert not any(trained[name].up.equal(averaged[name].up) for name in trained)
    weights = dict(singer.named_parameters())
    shared = [n for n, p in average.network.named_parameters() if p is weights[n]]
    assert len(shared) == sum(name.endswith(".original") for name in shared) + sum(
        not name.endswith((".original", ".up", ".down")) for name in weights
    )

    restored = make()
    add_lora(restored, 4, alpha=7)
    restored.load_state_dict(average.network.state_dict())
    assert torch.equal(mel_of(restored), mel_of(average.network))


def test_autocast_does_not_round_the_sum() -> None:
    singer = tiny_hifisinger()
    add_lora(singer, 4)
    learn(singer)
    layer = singer.backbone.blocks[0].dilated
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            layer.weight, merged_lora_state(layer.state_dict(prefix="x."))["x.weight"]
        )
        loss = loss_of(singer)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in singer.parameters() if p.requires_grad)


@torch.no_grad()
def test_kept_weights_and_fast_convolutions_see_the_sum() -> None:
    torch.manual_seed(0)
    adapted = WaveNet(4, 4, 256, 1, out_channels=4)  # wide enough for Winograd's convolution
    add_lora(adapted, 2, targets=["blocks"])
    for block in adapted.blocks:
        nn.init.normal_(block.dilated.parametrizations.weight[0].up, std=0.1)
    plain = WaveNet(4, 4, 256, 1, out_channels=4)
    plain.load_state_dict(merged_lora_state(adapted.state_dict()))
    x, condition = torch.randn(1, 4, 300), torch.randn(1, 4, 300)
    outputs = []
    for network in (plain, adapted):
        with network.inference_weights.kept():
            outputs.append(network(x, condition))
        outputs.append(network(x, condition))
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])


def test_a_training_step_computes_every_sum_once(monkeypatch: pytest.MonkeyPatch) -> None:
    singer = tiny_diffsvc()
    names = add_lora(singer, 4)
    counted = []
    forward = parametrize.ParametrizationList.forward
    monkeypatch.setattr(
        parametrize.ParametrizationList,
        "forward",
        lambda self: (counted.append(self), forward(self))[1],
    )
    loss_of(singer)
    adapted = [one for one in counted if not hasattr(one, "original0")]
    assert len(adapted) == len(set(adapted)) == len(names)


def test_weight_normed_layers_and_embeddings_stay_as_they_are() -> None:
    singer = tiny_hifisinger()
    singer.backbone.skip = nn.utils.parametrizations.weight_norm(singer.backbone.skip)
    names = add_lora(singer, 4)
    assert "backbone.skip.weight" not in names
    assert "conditioner.speaker.weight" not in names
    assert "backbone.input.weight" in names


def test_what_cannot_be_adapted_is_refused() -> None:
    singer = tiny_hifisinger()
    with pytest.raises(
        ValueError, match=r"backbon are not there.*conditioner, backbone, mel_projec"
    ):
        add_lora(singer, 4, targets=["conditioner", "backbon"])
    with pytest.raises(ValueError, match=r"hold no layer to adapt.*conditioner, backbone"):
        add_lora(singer, 4, targets=["denoiser"])
    for rank, alpha in ((0, 1.0), (4, 0.0), (4, float("nan"))):
        with pytest.raises(ValueError, match=r"rank=.*alpha="):
            add_lora(singer, rank, alpha)
    assert not split_lora_state(singer.state_dict())[1]
    add_lora(singer, 4, targets=["backbone.blocks", "backbone"])  # overlapping targets are one
    with pytest.raises(ValueError, match=r"backbone\S* is adapted already"):
        add_lora(singer, 4)
    with pytest.raises(ValueError, match=r"grouped.*0"):
        add_lora(nn.Sequential(nn.Conv1d(4, 4, 3, groups=2)), 2, targets=["0"])


def test_a_state_with_half_an_update_is_refused() -> None:
    singer = tiny_hifisinger()
    add_lora(singer, 4)
    state = singer.state_dict()
    del state["backbone.input.parametrizations.weight.0.down"]
    with pytest.raises(ValueError, match=r"incomplete.*backbone\.input\.param\S*\.0\.down"):
        merged_lora_state(state)
