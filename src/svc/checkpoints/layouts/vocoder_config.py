"""The config.json that lies beside published NSF-HiFiGAN weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svc.errors import UserError

_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class VocoderConfig:
    """What weights do not tell about a vocoder. The defaults are those of the published 44.1 kHz
    vocoders."""

    sample_rate_hz: int = 44_100
    hop_samples: int = 512
    window_samples: int = 2048
    mel_bins: int | None = None
    """None leaves it to the weights."""
    mel_min_hz: float = 40.0
    mel_max_hz: float = 16_000.0
    dilations: tuple[tuple[int, ...], ...] | None = None
    """Of each residual block; None for 1, 3, 5."""
    upsample_rates: tuple[int, ...] | None = None
    """None leaves them to the weights."""
    periods: tuple[int, ...] | None = None
    """Of the multi-period discriminator; None leaves them to their number."""
    notes: tuple[str, ...] = ()
    """What of the file has no effect here."""


def read_vocoder_config(path: str | Path) -> VocoderConfig:
    """The facts in a config.json of HiFi-GAN's form.

    Raises:
        UserError: it is not there, is not JSON of that form, or describes another network.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        plain = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise TypeError("no object at the top")
        config = _config_of(plain)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as a vocoder's configuration ({error}). Expected a config.json "
            f"as HiFi-GAN has it, with sampling_rate, hop_size, num_mels and so on."
        ) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def _config_of(plain: Mapping[str, Any]) -> VocoderConfig:
    _refuse_other_networks(plain)
    known = VocoderConfig()
    window = int(plain.get("win_size", known.window_samples))
    if int(plain.get("n_fft", window)) != window:
        raise UserError(
            f"n_fft={plain['n_fft']} and win_size={window} differ; only mels whose window is as "
            f"long as the FFT are supported."
        )
    sample_rate_hz = int(plain.get("sampling_rate", known.sample_rate_hz))
    highest_hz = plain.get("fmax", known.mel_max_hz)
    dilations, rates, periods = (
        plain.get(name)
        for name in ("resblock_dilation_sizes", "upsample_rates", "discriminator_periods")
    )
    notes = []
    if plain.get("noise_sigma"):
        notes.append(
            f"The noise that was added to hidden layers (noise_sigma={plain['noise_sigma']}) is "
            f"left out."
        )
    return VocoderConfig(
        sample_rate_hz=sample_rate_hz,
        hop_samples=int(plain.get("hop_size", known.hop_samples)),
        window_samples=window,
        mel_bins=int(plain["num_mels"]) if "num_mels" in plain else None,
        mel_min_hz=float(plain.get("fmin", known.mel_min_hz)),
        mel_max_hz=sample_rate_hz / 2 if highest_hz is None else float(highest_hz),
        dilations=dilations and tuple(tuple(int(d) for d in block) for block in dilations),
        upsample_rates=rates and tuple(int(rate) for rate in rates),
        periods=periods and tuple(int(period) for period in periods),
        notes=tuple(notes),
    )


def _refuse_other_networks(plain: Mapping[str, Any]) -> None:
    if plain.get("mini_nsf"):
        raise UserError(
            "mini_nsf=true is another network than NSF-HiFiGAN (one sine, given to one stage) and "
            "is not supported. Take a vocoder that has a sine source with harmonics."
        )
    if str(plain.get("resblock", "1")) != "1":
        raise UserError(
            f"resblock={plain['resblock']!r} is not supported; the published 44.1 kHz vocoders "
            f"have residual blocks of type '1'."
        )
