"""Real-time factors of every extractor that this machine has, on short and long recordings."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import Figure, Options, Section, figure
from benchmarks.machine import best_seconds, precisions
from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.errors import UserError

SPEC = AudioSpec()
LONG_S = 60.0
"""Above this, one timed run is enough."""
LONGEST_RUN_S = 60.0
"""What would take longer, by its real-time factor on a shorter recording, is left out."""


@dataclass(frozen=True)
class Case:
    """One extractor in one precision."""

    name: str
    make: Callable[[], Callable[[Tensor], object]]
    """-> extracts from audio [T] at 44.1 kHz."""
    at_most: float | None = None
    """Target of the real-time factor on two cores."""
    precision: str = "fp32"
    gflop_per_audio_s: float | None = None


def measure(options: Options) -> Section:
    """Seconds of computing per second of audio, at every length."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in [*_content(Path(folder), options), *_pitch(Path(folder)), *_others()]:
            try:
                extract = case.make()
            except UserError as error:
                print(f"{case.name} is left out: {error}", file=sys.stderr)
                continue
            factor = 0.0
            for duration_s in options.feature_durations_s:
                if factor * duration_s <= LONGEST_RUN_S:
                    figures.append(_measure(case, extract, duration_s, options.repeats))
                    factor = figures[-1]["value"]
    return {
        "settings": "Whole extractors, resampling included, on a gliding voice-like tone; networks "
        "of full size, those whose weights are not shipped with random ones. Ten minutes only "
        "where they take less than one.",
        "figures": figures,
    }


def _measure(
    case: Case, extract: Callable[[Tensor], object], duration_s: float, repeats: int
) -> Figure:
    audio = _voice(duration_s)
    is_long = duration_s > LONG_S
    seconds = best_seconds(lambda: extract(audio), 1 if is_long else repeats, int(not is_long))
    target = case.at_most if duration_s >= 20 else None
    details: dict[str, Any] = {"seconds": round(seconds, 7)}
    if case.gflop_per_audio_s is not None:
        details |= {"gflop_per_s_used": case.gflop_per_audio_s * duration_s / seconds}
        details |= {"precision": case.precision}
    name = f"{case.name}, {duration_s:g} s"
    return figure(name, seconds / duration_s, "real-time factor", at_most=target, **details)


def _content(folder: Path, options: Options) -> Iterator[Case]:
    from transformers import HubertConfig, HubertModel

    from svc.features.content.hubert import HubertContent
    from svc.features.content.mfcc import MfccContent
    from svc.features.content.whisper import WhisperContent

    torch.manual_seed(0)
    file = folder / "hubert.safetensors"
    reference = HubertModel(HubertConfig()).eval()
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, file)
    for layers, like, targets in (
        (12, "HuBERT-soft", (0.055, 0.022)),
        (9, "ContentVec", (0.041, 0.0165)),
    ):
        del reference.encoder.layers[layers:]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            reference(torch.zeros(1, 16_000 * 10))
        gflop = counter.get_total_flops() / 1e10
        for precision, target in zip(precisions(), targets, strict=False):

            def make(layers: int = layers, precision: str = precision) -> Any:
                encoder = HubertContent(
                    weights="hubert_base",
                    model=str(file),
                    layer=layers,
                    projection=False,
                    precision=precision,  # type: ignore[arg-type]
                )
                return lambda audio: encoder.encode(audio, SPEC.sample_rate_hz)

            name = f"{like} ({layers} layers), {precision}"
            yield Case(name, make, target, precision, gflop)

    def whisper() -> Any:
        if options.whisper is None:
            raise UserError("give --whisper the folder of a Whisper model")
        encoder = WhisperContent(str(options.whisper), threads=torch.get_num_threads())
        return lambda audio: encoder.encode(audio, SPEC.sample_rate_hz)

    def mfcc() -> Any:
        encoder = MfccContent()
        return lambda audio: encoder.encode(audio, SPEC.sample_rate_hz)

    yield Case("whisper, int8", whisper, 0.02, "int8")
    yield Case("mfcc", mfcc)


def _pitch(folder: Path) -> Iterator[Case]:
    from svc.features.pitch.crepe import CrepePitch
    from svc.features.pitch.fcpe import FcpePitch
    from svc.features.pitch.parselmouth import ParselmouthPitch
    from svc.features.pitch.rmvpe import RmvpePitch
    from svc.features.pitch.world import DioPitch, HarvestPitch
    from svc.models.rmvpe import Rmvpe

    torch.manual_seed(0)
    file = folder / "rmvpe.safetensors"
    network = Rmvpe().eval()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 128, 1024))
    rmvpe_gflop = counter.get_total_flops() / 1e9 / 10.24

    def tracking(tracker: type, **settings: Any) -> Any:
        def make() -> Any:
            live = tracker(**settings)
            return lambda audio: live.track(audio, SPEC.sample_rate_hz, SPEC.hop_samples)

        return make

    for precision in precisions():
        make = tracking(RmvpePitch, model=str(file), precision=precision)
        yield Case(f"rmvpe, {precision}", make, 0.03, precision, rmvpe_gflop)
        for model, target in (("full", 1.0), ("tiny", 0.08)):
            make = tracking(CrepePitch, model=model, precision=precision)
            yield Case(f"crepe {model}, {precision}", make, target)
    yield Case("parselmouth", tracking(ParselmouthPitch))
    yield Case("dio", tracking(DioPitch))
    yield Case("harvest", tracking(HarvestPitch))
    yield Case("fcpe", tracking(FcpePitch))


def _others() -> Iterator[Case]:
    from svc.features.energy.rms import RmsEnergy

    yield Case("rms", lambda: lambda audio: RmsEnergy().measure(audio, SPEC.hop_samples))
    yield Case("mel", lambda: MelSpectrogram(SPEC))


def _voice(duration_s: float) -> Tensor:
    """[T] a buzz of twenty harmonics that glides around 220 Hz, with a little noise."""
    samples = round(duration_s * SPEC.sample_rate_hz)
    time_s = torch.arange(samples, dtype=torch.float64) / SPEC.sample_rate_hz
    f0_hz = 220 * 2 ** (0.4 * torch.sin(2 * torch.pi * 0.3 * time_s))
    phase = 2 * torch.pi * torch.cumsum(f0_hz / SPEC.sample_rate_hz, dim=0)
    tone = sum(torch.sin(order * phase) / order for order in range(1, 21))
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    return (0.2 * tone).float() + 0.003 * noise
