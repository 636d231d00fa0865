"""A checkpoint of a small vocoder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from svc import __version__
from svc.audio.spec import AudioSpec
from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.training_checkpoint import TrainingProgress, write_svc_state
from svc.config.instantiate import build
from svc.models.nsf_hifigan import NsfHifiGan


@pytest.fixture
def vocoder_checkpoint() -> Callable[[Path], NsfHifiGan]:
    """Writes one, and returns the vocoder in it."""

    def write(path: Path) -> NsfHifiGan:
        node = {
            "_target_": "svc.models.nsf_hifigan.NsfHifiGan",
            "initial_channels": 16,
            "upsample_rates": [16, 32],
            "upsample_kernels": [16, 32],
            "resblock_kernels": [3],
            "resblock_dilations": [[1]],
        }
        torch.manual_seed(0)
        vocoder: NsfHifiGan = build(node)
        facts = CheckpointFacts(
            config={"arch": {"generator": node}, "vocoder": node},
            audio=AudioSpec(),
            features={},
            feature_fingerprint="0",
            speakers=["anna"],
            content_channels=1,
            svc_version=__version__,
        )
        state = {f"generator.{name}": value for name, value in vocoder.state_dict().items()}
        checkpoint = {"state_dict": state}
        write_svc_state(checkpoint, facts, TrainingProgress(), {})
        torch.save(checkpoint, path)
        return vocoder

    return write
