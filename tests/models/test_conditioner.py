"""What each conditioning input changes, and what it must not change."""

from dataclasses import replace

import pytest
import torch

from svc.models.conditioner import Conditioner, Conditioning, energy_features, pitch_features

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


def conditioner(**settings: bool) -> Conditioner:
    torch.manual_seed(0)
    return Conditioner(content_channels=CHANNELS, speakers=SPEAKERS, channels=12, **settings)


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
