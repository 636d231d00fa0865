"""Conversions through the Converter, from a ready analysis to the waveform."""

from typing import Any, cast

import torch

from benchmarks.configuration import composed
from benchmarks.conversion import KnownAnalysis, snr_db
from gpu_checks.cases import PRECISIONS, Size
from gpu_checks.rates import best_seconds
from gpu_checks.training import CONTENT_CHANNELS, without_zeros
from svc.audio.spec import AudioSpec
from svc.config.instantiate import build
from svc.inference.analysis import Extractors
from svc.inference.converter import Converter
from svc.inference.singers import DirectSinger, SamplingSinger, Singer


def run_conversions(
    arch: str, size: Size, device: torch.device, precisions: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Real-time factor, memory and agreement with the first precision, which is fp32."""
    torch.manual_seed(0)
    spec = AudioSpec()
    samples = round(size.conversion_s * spec.frame_rate_hz) * spec.hop_samples
    audio = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    singer = _singer(arch, size)
    exact: torch.Tensor | None = None
    results = []
    for name in precisions:
        torch.backends.cudnn.allow_tf32 = PRECISIONS[name].tf32
        converter = Converter(
            singer,
            cast(Extractors, KnownAnalysis(CONTENT_CHANNELS)),
            spec,
            ["singer"],
            device=device,
            precision="bf16" if name == "bf16" else "fp32",
        )
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        sung = converter.convert(audio, spec.sample_rate_hz)
        seconds = best_seconds(lambda c=converter: c.convert(audio, spec.sample_rate_hz), device, 3)
        exact = sung if exact is None else exact
        result = {
            "arch": arch,
            "precision": name,
            "status": "done",
            "audio_s": size.conversion_s,
            "seconds": round(seconds, 4),
            "real_time_factor": round(seconds / size.conversion_s, 5),
            "snr_db": None if name == "fp32" else round(float(snr_db(exact, sung)), 1),
        }
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
            result["peak_gib"] = round(peak / 2**30, 2)
        results.append(result)
    return results


def _singer(arch: str, size: Size) -> Singer:
    config = composed("train", "trainer=gpu_fp32", *size.overrides[arch])
    conditioner = {"content_channels": CONTENT_CHANNELS, "speakers": 1}
    network = build(config["arch"]["generator"], conditioner=conditioner)
    without_zeros(network)
    if arch == "hifisinger":
        return DirectSinger(network)
    return SamplingSinger(network, build(config["sampler"]))
