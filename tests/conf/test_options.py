"""Every option of every group composes, passes its checks, and fits the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from command_line import Terminal
from svc.cli.train import RUN_TIME_ARGUMENTS
from svc.config.checks import check_config
from svc.config.instantiate import build
from svc.config.paths import conf_dir
from svc.config.resolvers import register_resolvers
from svc.config.schema import register_schemas
from svc.errors import UserErrors
from svc.models.conditioner import Conditioning
from svc.models.hifisinger import HifiSinger
from svc.models.mel_singer import MelSinger
from svc.training.network_module import NetworkModule

COMMANDS = ("train", "preprocess")
NEEDED = ("dataset.path=voices", "content=mfcc", "paths.run_dir=run", "paths.store_dir=store")
"""What must be given; outside a command there is no run folder yet."""

NOT_OPTIONS = {"hydra", "local", "task"}
"""Folders of conf/ that are not groups of parts for training."""

GENERATOR_PARAMETERS = {
    "hifisinger": (13.5e6, 16.5e6),
    "hifisinger_tiny": (0.3e6, 1.5e6),
    "hifisinger_fish": (14.7e6, 15.3e6),
    "nsf_hifigan": (14.1e6, 14.3e6),
    "nsf_hifigan_tiny": (0.2e6, 0.4e6),
    # Without a vocoder; the published one adds 14.2 million.
    "diffsvc": (54e6, 57e6),
    "diffsvc_large": (83e6, 88e6),
    "diffsvc_tiny": (0.5e6, 2.0e6),
    "flowsvc": (54e6, 59e6),
    "flowsvc_tiny": (0.5e6, 2.0e6),
}
OF_SAMPLED_MELS = {"sampler", "mel_scaling", "noise_schedule"}
"""Groups for architectures that sample."""
OF_HIDDEN_FEATURES = {"nsf_hifigan_fish"}
"""Decoders that take no mel, and so fit one architecture only."""
VOCODER_ARCHITECTURES = {"nsf_hifigan", "nsf_hifigan_tiny"}
"""They train `vocoder` by itself."""


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


GROUPS = sorted(
    path.name for path in conf_dir().iterdir() if path.is_dir() and path.name not in NOT_OPTIONS
)
OPTIONS = [
    pytest.param(group, option, id=f"{group}={option}")
    for group in GROUPS
    for option in options(group)
]


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    register_schemas()
    register_resolvers()
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


def composed(command: str, *overrides: str) -> dict[str, Any]:
    """The plain resolved configuration of a command."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(command, [*NEEDED, *overrides])
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


def test_there_are_groups_and_options() -> None:
    named = {"arch", "vocoder", "pitch", "trainer", "dataset", "content", "energy", "audio"}
    assert named | {"optim", "scheduler", "logger", "callbacks", "experiment"} <= set(GROUPS)
    assert all(options(group) for group in GROUPS)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_passes_the_checks_of_training(group: str, option: str) -> None:
    fitting = ["arch=diffsvc"] if group in OF_SAMPLED_MELS or option == "griffin_lim" else []
    if (group, option) == ("content", "none"):
        fitting = ["arch=nsf_hifigan"]
    if option in OF_HIDDEN_FEATURES:
        fitting = ["arch=hifisinger_fish"]
    if option.startswith("finetune_"):
        fitting = ["pretrained=model.ckpt"]
    if (group, option) == ("trainer", "fsdp_bf16"):
        fitting = ["arch=diffsvc"]
    plain = composed("train", f"{group}={option}", *fitting)
    check_config(plain, RUN_TIME_ARGUMENTS)


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (["sampler=ddim"], "takes no sampler"),
        (["mel_scaling=dataset"], "takes no mel_scaling"),
        (["arch=flowsvc", "noise_schedule=cosine"], "takes no noise_schedule"),
        (["vocoder=griffin_lim"], "cannot be trained"),
        (["arch=nsf_hifigan", "vocoder=griffin_lim"], "cannot be trained"),
        (["arch=diffsvc", "vocoder=nsf_hifigan"], "vocoder_weights"),
        (["arch=hifisinger", "content=none"], "for training vocoders"),
        (["arch=hifisinger", "trainer=fsdp_bf16"], "divides a denoiser"),
        (["arch=flowsvc", "audio.mel_bins=80", "vocoder.mel_bins=128"], "mel_bins"),
        (["vocoder=nsf_hifigan_fish"], "vocoder.mel_bins=256 must equal audio.mel_bins=128"),
        (["arch=hifisinger_fish", "vocoder=nsf_hifigan_tiny"], "shaped_source"),
        (["arch=hifisinger_fish", "arch.generator.conditioner.channels=64"], "must equal arch.gen"),
    ],
)
def test_what_an_architecture_cannot_use_is_refused(choices: list[str], reason: str) -> None:
    with pytest.raises(UserErrors, match=reason):
        check_config(composed("train", *choices), RUN_TIME_ARGUMENTS)


@pytest.mark.parametrize("changes", [[], ["audio=openvpi", "content=whisper", "dataset=demo"]])
def test_preparing_and_training_agree_on_the_features(changes: list[str]) -> None:
    """Features that `svc-preprocess` makes must be those that `svc-train` asks for."""
    preparing, training = (composed(command, *changes) for command in COMMANDS)
    for name in ("audio", "content", "pitch", "energy", "preparation", "dataset", "paths"):
        assert preparing[name] == training[name]


@pytest.mark.parametrize("arch", options("arch"))
def test_every_architecture_builds_with_its_size(arch: str) -> None:
    plain = composed("train", f"arch={arch}")
    known = {"conditioner": {"content_channels": 256, "speakers": 2}}
    module = build(
        plain["arch"],
        **({} if arch in VOCODER_ARCHITECTURES else {"generator": known}),
        audio=build(plain["audio"]),
        optimizer=build(plain["optim"]),
        scheduler=build(plain["scheduler"]),
        facts=None,
    )
    assert isinstance(module, NetworkModule)
    least, most = GENERATOR_PARAMETERS[arch]
    assert least <= sum(p.numel() for p in module.generator.parameters()) <= most


def unused_conditioning(frames: int) -> Conditioning:
    return Conditioning(
        content=torch.zeros(1, 8, frames),
        f0_hz=torch.full((1, frames), 220.0),
        voiced=torch.ones(1, frames, dtype=torch.bool),
        energy=torch.full((1, frames), 0.1),
        speaker=torch.zeros(1, dtype=torch.int64),
        key_shift_semitones=torch.zeros(1),
    )


def built_generator(plain: dict[str, Any]) -> torch.nn.Module:
    known = {"conditioner": {"content_channels": 8, "speakers": 2}}
    generator = build(plain["arch"]["generator"], **known)
    assert isinstance(generator, torch.nn.Module)
    return generator.eval()


@pytest.mark.parametrize(
    "vocoder", sorted(set(options("vocoder")) - {"griffin_lim"} - OF_HIDDEN_FEATURES)
)
@pytest.mark.parametrize("arch", ["hifisinger", "hifisinger_tiny"])
def test_hifisinger_sings_through_every_vocoder_that_learns(arch: str, vocoder: str) -> None:
    plain = composed("train", f"arch={arch}", f"vocoder={vocoder}")
    assert plain["arch"]["generator"]["decoder"] == plain["vocoder"]
    spec, generator, frames = build(plain["audio"]), built_generator(plain), 6
    assert isinstance(generator, HifiSinger)
    with torch.inference_mode():
        sung = generator(unused_conditioning(frames), rng=torch.Generator().manual_seed(0))
    assert sung.audio.shape == (1, 1, frames * spec.hop_samples)
    assert sung.mel is not None
    assert sung.mel.shape == (1, spec.mel_bins, frames)
    assert sung.audio.isfinite().all()


@pytest.mark.parametrize(("vocoder", "channels"), [("nsf_hifigan_fish", 256), ("nsf_hifigan", 128)])
def test_hifisinger_without_a_mel_is_as_wide_as_its_decoder(vocoder: str, channels: int) -> None:
    plain = composed("train", "arch=hifisinger_fish", f"vocoder={vocoder}")
    check_config(plain, RUN_TIME_ARGUMENTS)
    spec, generator, frames = build(plain["audio"]), built_generator(plain), 6
    assert isinstance(generator, HifiSinger)
    assert generator.conditioner.channels == generator.decoder.mel_bins == channels
    with torch.inference_mode():
        sung = generator(unused_conditioning(frames), rng=torch.Generator().manual_seed(0))
    assert sung.audio.shape == (1, 1, frames * spec.hop_samples)
    assert sung.mel is None
    assert sung.audio.isfinite().all()


def test_hifisinger_fish_has_the_published_size() -> None:
    """15 M in the generator and 87 M in the discriminators are the 102 M of the published file."""
    plain = composed("train", "arch=hifisinger_fish")
    with torch.device("meta"):
        generator = build(
            plain["arch"]["generator"], conditioner={"content_channels": 256, "speakers": 2}
        )
        discriminator = build(plain["arch"]["discriminator"])
    sizes = [sum(p.numel() for p in part.parameters()) for part in (generator, discriminator)]
    assert sizes[0] == pytest.approx(15e6, rel=0.02)
    assert sizes[1] == pytest.approx(87e6, rel=0.01)
    assert sum(sizes) == pytest.approx(102e6, rel=0.005)


@pytest.mark.parametrize("vocoder", sorted(set(options("vocoder")) - OF_HIDDEN_FEATURES))
@pytest.mark.parametrize("arch", ["diffsvc_tiny", "flowsvc_tiny"])
def test_sampled_mels_are_rendered_by_every_vocoder(arch: str, vocoder: str) -> None:
    plain = composed("train", f"arch={arch}", f"vocoder={vocoder}", "sampler.steps=2")
    assert plain["arch"]["generator"]["vocoder"] == plain["vocoder"]
    spec, generator, frames = build(plain["audio"]), built_generator(plain), 6
    assert isinstance(generator, MelSinger)
    conditioning, rng = unused_conditioning(frames), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        mel = generator.predict_mel(conditioning, build(plain["sampler"]), rng=rng)
        audio = generator.render(mel, conditioning.f0_hz, conditioning.voiced, rng=rng)
    assert mel.shape == (1, spec.mel_bins, frames)
    assert audio.shape == (1, 1, frames * spec.hop_samples)
    assert audio.isfinite().all()


def test_a_vocoder_is_trained_without_content_unless_one_is_given() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        by_itself = compose("train", ["dataset=demo", "arch=nsf_hifigan"])
        asked_for = compose("train", ["dataset=demo", "arch=nsf_hifigan_tiny", "content=mfcc"])
    assert by_itself.content._target_.endswith("NoContent")
    assert asked_for.content._target_.endswith("MfccContent")
    assert asked_for.arch.generator == asked_for.vocoder
    assert asked_for.vocoder.initial_channels == 128


@pytest.mark.slow
def test_architectures_sweep_in_the_demo(terminal: Terminal, tmp_path: Path) -> None:
    archs = "arch=hifisinger_tiny,diffsvc_tiny,flowsvc_tiny"
    small = [s for s in TINY_DEMO if s not in ("content=mfcc", "debug=fast")]
    said = terminal(
        "svc-train",
        "-m",
        archs,
        "experiment=demo",
        *small,
        "trainer.max_steps=1",
        "data.valid_max_crops=1",
    )
    assert said.err.count("Done after 1 steps") == 3
    checkpoints = list(tmp_path.glob("outputs/multirun/*/*/checkpoints/last.ckpt"))
    assert len(checkpoints) == 3


@pytest.mark.slow
def test_hifisinger_fish_trains_and_sweeps_over_its_width(
    terminal: Terminal, tmp_path: Path
) -> None:
    """Its published discriminators take minutes per step of a CPU; these have the same form."""
    said = terminal(
        "svc-train",
        "-m",
        "arch=hifisinger_fish",
        "vocoder.mel_bins=16,24",
        "vocoder.initial_channels=32",
        "arch.discriminator.periods.channels=[4,8]",
        "arch.discriminator.scales.width=0.03125",
        *TINY_DEMO,
        "trainer.max_steps=2",
    )
    assert said.err.count("Done after 2 steps") == 2
    widths = set()
    for checkpoint in tmp_path.glob("outputs/multirun/*/*/checkpoints/last.ckpt"):
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        widths.add(len(state["generator.backbone.hidden.weight"]))
        assert not any("mel_projection" in name for name in state)
    assert widths == {16, 24}


TINY_DEMO = (
    "dataset=demo",
    "dataset.minutes_per_singer=0.3",
    "dataset.singers=2",
    "content=mfcc",
    "trainer=cpu",
    "debug=fast",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    # The others need a trained model: tests/cli/test_finetuning_command.py.
    [name for name in options("experiment") if not name.startswith("finetune_")],
)
def test_every_experiment_trains_on_synthetic_singers(
    experiment: str, terminal: Terminal, tmp_path: Path
) -> None:
    said = terminal("svc-train", f"experiment={experiment}", *TINY_DEMO, "trainer.max_steps=3")
    assert "Done after 3 steps" in said.err
    (checkpoint,) = tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    assert state["global_step"] == 3
    weights = [t for t in state["state_dict"].values() if isinstance(t, torch.Tensor)]
    assert all(t.isfinite().all() for t in weights if t.is_floating_point())


LOGGER_FILES = {
    "csv": ["metrics/*/metrics.csv", "metrics/*/hparams.yaml"],
    "tensorboard": ["tensorboard/events.out.*", "metrics/*/metrics.csv"],
    "wandb": ["wandb/offline-run-*/*.wandb", "metrics/*/metrics.csv"],
}
"""What each leaves in the run folder; every one comes with the numbers as csv."""


@pytest.mark.slow
@pytest.mark.parametrize("logger", options("logger"))
def test_every_logger_takes_settings_numbers_and_sounds(
    logger: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny = ("arch=hifisinger_tiny", *TINY_DEMO, "trainer.max_steps=1")
    terminal("svc-train", *tiny, f"logger={logger}", "logger.csv.name=metrics")
    (run,) = tmp_path.glob("outputs/train/*")
    found = {
        pattern: [p.read_bytes() for p in run.glob(pattern)] for pattern in LOGGER_FILES[logger]
    }
    for pattern, contents in found.items():
        assert len(contents) >= 1, pattern
    for name in (b"valid_loss", b"mel_bins", b"dataset_fingerprint"):
        assert any(name in content for contents in found.values() for content in contents)
    if logger != "csv":
        dashboard = found[LOGGER_FILES[logger][0]]
        for name in (b"valid_loss", b"mel_bins", b"sample/0/prediction", b"dataset_fingerprint"):
            assert any(name in content for content in dashboard), name
