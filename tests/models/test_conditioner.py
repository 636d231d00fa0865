"""What each conditioning input changes, and what it must not change."""

from dataclasses import replace

import pytest
import torch

from svc.models.conditioner import Conditioner, Conditioning, energy_features
from svc.models.pitch_encoding import pitch_features

BATCH, CHANNELS, FRAMES, SPEAKERS = 2, 5, 9, 3


def random_conditioning(seed: int = 0) -> Conditioning:
    rng = torch.Generator().manual_seed(seed)
    return Conditioning(
        content=torch.randn(BATCH, CHANNELS, FRAMES, generator=rng),
        f0_hz=100 + 300 * torch.rand(BATCH, FRAMES, generator=rng),
        voiced=torch.rand(BATCH, FRAMES, generator=rng) > 0.4,
        energy=torch.rand(BATCH, FRAMES, generator=rng),
        speaker=torch.tensor([0, 2]),
        key_shift_semitones=torch.tensor([0.0, 3.5]),
    )


def conditioner(**settings: object) -> Conditioner:
    torch.manual_seed(0)
    sizes = {"content_channels": CHANNELS, "speakers": SPEAKERS, "channels": 12}
    return Conditioner(**(sizes | settings))  # type: ignore[arg-type]


OTHER = {
    "content": torch.zeros(BATCH, CHANNELS, FRAMES),
    "f0_hz": torch.full((BATCH, FRAMES), 900.0),
    "voiced": torch.zeros(BATCH, FRAMES, dtype=torch.bool),
    "energy": torch.zeros(BATCH, FRAMES),
    "speaker": torch.tensor([1, 1]),
}


@pytest.mark.parametrize("name", OTHER)
def test_every_input_matters(name: str) -> None:
    model, inputs = conditioner(), random_conditioning()
    result = model(inputs)
    assert result.shape == (BATCH, 12, FRAMES)
    assert not torch.allclose(result, model(replace(inputs, **{name: OTHER[name]})))


def test_disabled_inputs_are_absent() -> None:
    model, inputs = conditioner(use_energy=False, use_key_shift=False), random_conditioning()
    changed = replace(inputs, energy=OTHER["energy"], key_shift_semitones=torch.full((2,), 12.0))
    assert torch.equal(model(inputs), model(changed))
    assert not any(name.startswith(("energy", "key_shift")) for name in model.state_dict())


def test_untrained_key_shift_changes_nothing() -> None:
    model = conditioner()
    still = replace(random_conditioning(), key_shift_semitones=torch.zeros(BATCH))
    shifted = replace(still, key_shift_semitones=torch.tensor([-12.0, 7.0]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        assert torch.equal(model(still), model(shifted))
        optimizer.zero_grad()
        model(still).square().sum().backward()
        optimizer.step()


def test_trained_key_shift_tells_up_from_down() -> None:
    model = conditioner()
    torch.nn.init.normal_(model.key_shift.weight)  # type: ignore[union-attr, arg-type]
    up, down, none = (
        model(replace(random_conditioning(), key_shift_semitones=torch.full((BATCH,), shift)))
        for shift in (5.0, -5.0, 0.0)
    )
    assert not torch.allclose(up - none, none - down)


def test_a_pure_mix_is_the_speaker() -> None:
    model, inputs = conditioner(), random_conditioning()
    one_hot = torch.nn.functional.one_hot(inputs.speaker, SPEAKERS).float()
    torch.testing.assert_close(model(replace(inputs, speaker=one_hot)), model(inputs))


def test_features_of_known_values() -> None:
    voiced = torch.tensor([[True, False]])
    features = pitch_features(torch.tensor([[440.0, 0.0]]), voiced)
    assert features.shape == (1, 10, 2)
    assert torch.equal(features[0, 0], torch.tensor([1.0, 0.0]))
    assert features[0, 1, 0] == 1.0  # one octave above the reference
    assert torch.isfinite(features).all()
    levels = energy_features(torch.tensor([[1.0, 0.01, 0.0]]))[0, 0]
    torch.testing.assert_close(levels, torch.tensor([2.0, 0.0, -3.0]))


def test_names_every_wrong_shape() -> None:
    inputs = random_conditioning()
    with pytest.raises(ValueError, match=r"content \[2, 4, 9\] must be \[B, 5, N\]"):
        conditioner()(replace(inputs, content=inputs.content[:, :4]))
    broken = replace(inputs, f0_hz=inputs.f0_hz[:, :3], speaker=torch.zeros(2))
    with pytest.raises(ValueError, match=r"f0_hz \[2, 3\].*speaker \[2\] torch.float32"):
        conditioner()(broken)


def test_crop() -> None:
    inputs = random_conditioning()
    crop = inputs.crop(2, 6)
    assert crop.frames == 4
    assert torch.equal(crop.energy, inputs.energy[:, 2:6])
    assert torch.equal(crop.speaker, inputs.speaker)


@pytest.mark.parametrize("encoding", ["scale", "log", "coarse"])
def test_pitch_as_published_models_hear_it_matters_and_learns(encoding: str) -> None:
    model, inputs = conditioner(pitch_encoding=encoding), random_conditioning()
    result = model(inputs)
    assert result.shape == (BATCH, 12, FRAMES)
    assert not torch.allclose(result, model(replace(inputs, f0_hz=OTHER["f0_hz"])))
    assert torch.equal(result, model(replace(inputs, voiced=OTHER["voiced"])))
    result.sum().backward()
    assert model.pitch.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_without_a_pitch_encoding_the_sequence_knows_no_pitch() -> None:
    model, inputs = conditioner(pitch_encoding="none"), random_conditioning()
    assert torch.equal(model(inputs), model(replace(inputs, f0_hz=OTHER["f0_hz"])))
    assert not any(name.startswith("pitch") for name in model.state_dict())


def test_linear_energy_and_semitones_are_added_as_they_are() -> None:
    model = conditioner(energy_encoding="linear", key_shift_encoding="semitones")
    inputs = random_conditioning()
    still = replace(
        inputs, energy=torch.zeros(BATCH, FRAMES), key_shift_semitones=torch.zeros(BATCH)
    )
    louder = model(replace(still, energy=inputs.energy)) - model(still)
    energy, key_shift = model.energy, model.key_shift
    assert energy is not None
    assert key_shift is not None
    wanted = energy.weight[:, 0] * inputs.energy[:, None]
    torch.testing.assert_close(louder, wanted, atol=1e-6, rtol=0)
    shifted = model(replace(still, key_shift_semitones=inputs.key_shift_semitones)) - model(still)
    wanted = (inputs.key_shift_semitones[:, None] * key_shift.weight[:, 0])[:, :, None]
    torch.testing.assert_close(shifted, wanted.expand_as(shifted), atol=1e-6, rtol=0)
    assert key_shift.bias is not None


def test_content_may_pass_as_it_is() -> None:
    model = conditioner(channels=CHANNELS, content_projection=False)
    assert model.receptive_frames == 0
    assert not any(name.startswith("content") for name in model.state_dict())
    inputs = random_conditioning()
    silent = replace(inputs, content=torch.zeros_like(inputs.content))
    torch.testing.assert_close(model(inputs) - model(silent), inputs.content, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="content of 5 channels cannot pass"):
        conditioner(content_projection=False)


def test_a_mix_that_changes_over_time_is_the_mix_of_every_frame() -> None:
    model, inputs = conditioner(), random_conditioning()
    weights = torch.rand(BATCH, FRAMES, SPEAKERS, generator=torch.Generator().manual_seed(1))
    over_time = model(replace(inputs, speaker=weights))
    for frame in range(FRAMES):
        at_once = model(replace(inputs, speaker=weights[:, frame]))
        torch.testing.assert_close(over_time[..., frame], at_once[..., frame])
    cropped = replace(inputs, speaker=weights).crop(2, 6)
    assert torch.equal(cropped.speaker, weights[:, 2:6])
    with pytest.raises(ValueError, match=r"\[2, 9, 3\]"):
        model(replace(inputs, speaker=weights[:, 1:]))


def test_the_defaults_start_as_they_always_did() -> None:
    """Names, and the order in which initial weights are drawn: seeds keep their meaning."""
    model = conditioner()
    assert list(model.state_dict()) == [
        "content.weight", "content.bias", "pitch.weight", "pitch.bias", "energy.weight",
        "energy.bias", "speaker.weight", "key_shift.weight",
    ]  # fmt: skip
    torch.manual_seed(0)
    drawn = [
        torch.nn.Conv1d(CHANNELS, 12, 3, padding=1),
        torch.nn.Conv1d(10, 12, 1),
        torch.nn.Conv1d(1, 12, 1),
        torch.nn.Embedding(SPEAKERS, 12),
    ]
    layers = [model.content, model.pitch, model.energy, model.speaker]
    for layer, expected in zip(layers, drawn, strict=True):
        assert torch.equal(layer.weight, expected.weight)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("pitch_encoding", "hertz"), ("energy_encoding", "bels"), ("key_shift_encoding", "cents")],
)
def test_refuses_encodings_that_there_are_not(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{setting}='{value}' must be one of"):
        conditioner(**{setting: value})


def test_refuses_bounds_that_are_none() -> None:
    with pytest.raises(ValueError, match="the lower one first"):
        conditioner(pitch_bounds_hz=(1100, 50))
