"""Checkpoints of small untrained models of every architecture that converts, and of a vocoder."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.training_checkpoint import TrainingProgress, write_svc_state
from svc.config.instantiate import build
from svc.features.content.mfcc import MfccContent

SPEC = AudioSpec()
CHANNELS = MfccContent().channels

VOCODER = {
    "_target_": "svc.models.nsf_hifigan.NsfHifiGan",
    "initial_channels": 16,
    "upsample_rates": [8, 8, 8],
    "upsample_kernels": [16, 16, 16],
    "resblock_kernels": [3],
    "resblock_dilations": [[1, 3]],
}
CONDITIONER = {"_target_": "svc.models.conditioner.Conditioner", "channels": 8}
PARTS = {
    "conditioner": CONDITIONER,
    "denoiser": {
        "_target_": "svc.models.denoiser.MelDenoiser",
        "backbone": {
            "_target_": "svc.models.wavenet.WaveNet",
            "in_channels": 128,
            "condition_channels": 8,
            "channels": 16,
            "layers": 2,
            "out_channels": 128,
        },
    },
    "scaling": {"_target_": "svc.models.mel_scaling.MelScaling"},
    "vocoder": VOCODER,
}
GENERATORS: dict[str, dict[str, Any]] = {
    "diffsvc": {
        "_target_": "svc.models.diffsvc.DiffSvc",
        **PARTS,
        "schedule": {"_target_": "svc.diffusion.schedule.linear_schedule"},
    },
    "flowsvc": {
        "_target_": "svc.models.flowsvc.FlowSvc",
        **PARTS,
        "first_guess": {
            "_target_": "svc.models.flowsvc.FirstGuess",
            "condition_channels": 8,
            "mel_bins": 128,
            "channels": 8,
            "layers": 1,
        },
    },
    "hifisinger": {
        "_target_": "svc.models.hifisinger.HifiSinger",
        "conditioner": CONDITIONER,
        "backbone": {
            "_target_": "svc.models.wavenet.WaveNet",
            "in_channels": 8,
            "condition_channels": 8,
            "channels": 8,
            "layers": 2,
            "out_channels": 8,
        },
        "decoder": VOCODER,
    },
    "without_mel": {
        "_target_": "svc.models.hifisinger.HifiSinger",
        "conditioner": CONDITIONER | {"kernel": 1, "pitch_encoding": "none"},
        "backbone": {"_target_": "svc.models.feature_fuser.FeatureFuser", "channels": 8},
        "decoder": VOCODER | {"mel_bins": 8},
        "level_from_energy": False,
        "mel_bottleneck": False,
    },
    "nsf_hifigan": VOCODER,
}
SAMPLERS = {
    "diffsvc": {"_target_": "svc.diffusion.samplers.ddim.Ddim", "steps": 3},
    "flowsvc": {"_target_": "svc.diffusion.samplers.euler.Euler", "steps": 2},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes the checkpoint of an untrained model; the same weights every time."""

    def write(
        arch: str,
        name: str | None = None,
        audio: AudioSpec = SPEC,
        fingerprint: str = "0",
        speakers: tuple[str, ...] = ("anna", "bert"),
        energy_window_hops: int = 4,
    ) -> Path:
        node = copy.deepcopy(GENERATORS[arch])
        config = {
            "arch": {"generator": node},
            "sampler": SAMPLERS.get(arch),
            "content": {"_target_": "svc.features.content.mfcc.MfccContent"},
            "pitch": {"_target_": "svc.features.pitch.parselmouth.ParselmouthPitch"},
            "energy": {
                "_target_": "svc.features.energy.rms.RmsEnergy",
                "window_hops": energy_window_hops,
            },
        }
        facts = CheckpointFacts(config, audio, {}, fingerprint, list(speakers), CHANNELS)
        torch.manual_seed(len(arch))
        generator = build(node, **facts.run_time_arguments(node))
        for parameter in generator.parameters():  # the output layer of a denoiser starts at zero
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        weights = {f"generator.{k}": v for k, v in generator.state_dict().items()}
        state: dict[str, Any] = {"state_dict": weights}
        write_svc_state(state, facts, TrainingProgress(), {})
        path = tmp_path / f"{name or arch}.ckpt"
        torch.save(state, path)
        return path

    return write
