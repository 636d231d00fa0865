"""A small but real model, and extractors, for tests of conversion."""

from collections.abc import Callable

import pytest
import torch

from svc.audio.spec import AudioSpec
from svc.features.content.mfcc import MfccContent
from svc.features.energy.rms import RmsEnergy
from svc.features.pitch.parselmouth import ParselmouthPitch
from svc.inference.analysis import Extractors
from svc.inference.converter import Converter
from svc.inference.singers import DirectSinger
from svc.models.conditioner import Conditioner
from svc.models.hifisinger import HifiSinger
from svc.models.nsf_hifigan import NsfHifiGan
from svc.models.wavenet import WaveNet
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint"]


@pytest.fixture
def spec() -> AudioSpec:
    return AudioSpec()


@pytest.fixture
def extractors() -> Extractors:
    return Extractors(MfccContent(), ParselmouthPitch(), RmsEnergy())


@pytest.fixture
def make_generator(extractors: Extractors) -> Callable[[], HifiSinger]:
    """Always the same untrained singer of two voices."""

    def make() -> HifiSinger:
        torch.manual_seed(0)
        generator = HifiSinger(
            Conditioner(content_channels=extractors.content.channels, speakers=2, channels=8),
            WaveNet(8, 8, 8, 4, 4, out_channels=8),
            NsfHifiGan(
                initial_channels=16,
                upsample_rates=(8, 8, 8),
                upsample_kernels=(16, 16, 16),
                resblock_kernels=(3,),
                resblock_dilations=((1, 3),),
            ),
        )
        # Untrained, it buzzes at the frame rate around an offset; leave the voice to the source.
        with torch.no_grad():
            generator.decoder.output.bias.zero_()  # type: ignore[union-attr]
            for stage in generator.decoder.stages:
                stage.upsample.parametrizations.weight.original0.mul_(0.01)  # type: ignore[operator, union-attr, index]
        return generator

    return make


@pytest.fixture
def make_converter(
    make_generator: Callable[[], HifiSinger], extractors: Extractors, spec: AudioSpec
) -> Callable[..., Converter]:
    def make(**settings: object) -> Converter:
        singer = DirectSinger(make_generator())
        return Converter(singer, extractors, spec, ["anna", "bert"], **settings)  # type: ignore[arg-type]

    return make
