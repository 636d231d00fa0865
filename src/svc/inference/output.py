"""The last touches to a conversion: silence stays silent, the level fits, and nothing clips."""

import torch
from torch import Tensor
from torch.nn import functional

SILENT_PEAK = 2.0**-15
"""One step of 16-bit audio: what is no louder is digital silence, or its dither."""
MAX_GAIN = 10 ** (30 / 20)
"""By how much a conversion is turned up or down at the most. More would be the model's failure."""
_MARGIN_FRAMES = 2


def silence_gate(audio: Tensor, hop_samples: int) -> Tensor:
    """Which frames to let through, so that a model's hum does not fill digital silence.

    A frame is shut where it and two frames (23 ms) on each side are digitally silent; breath, room
    and reverberation are louder than that and stay.

    Args:
        audio: [T] input of the conversion, T = N * hop_samples.

    Returns:
        [N] float32, 0 or 1.
    """
    silent = audio.reshape(-1, hop_samples).abs().amax(dim=1) <= SILENT_PEAK
    loud = (~silent).float()[None]
    window = 2 * _MARGIN_FRAMES + 1
    return functional.max_pool1d(loud, window, stride=1, padding=_MARGIN_FRAMES)[0]


def apply_gate(audio: Tensor, gate: Tensor) -> Tensor:
    """audio [N * hop] times gate [N], whose steps become ramps of one hop."""
    if bool((gate == 1).all()):
        return audio
    return audio * functional.interpolate(gate[None, None], size=len(audio), mode="linear")[0, 0]


def matching_gain(audio: Tensor, reference: Tensor) -> float:
    """One factor that gives a whole recording the level of another.

    What a voice sings louder or softer stays as it is; only the recording as a whole moves, so that
    a conversion takes the place of its source in a mix.

    Args:
        audio: [T].
        reference: [T'], of any length.

    Returns:
        Ratio of the RMS values, within 30 dB; 1 where one of them is digitally silent.
    """
    level, wanted = (float(x.square().mean().sqrt()) if len(x) else 0.0 for x in (audio, reference))
    if min(level, wanted) < SILENT_PEAK:
        return 1.0
    return min(max(wanted / level, 1 / MAX_GAIN), MAX_GAIN)


def limit_peaks(audio: Tensor, knee: float = 0.9, ceiling: float = 0.999) -> Tensor:
    """Bend peaks so that they stay below `ceiling`; below `knee` nothing changes.

    A curve without memory: one loud instant does not turn down the rest of the recording.

    Args:
        audio: [T], full scale 1.
        knee: absolute value (-0.9 dB by default) at which the curve leaves the straight line,
            with the same slope.
        ceiling: absolute value that is never exceeded.
    """
    magnitude = audio.abs()
    if not len(audio) or float(magnitude.max()) <= knee:
        return audio
    room = ceiling - knee
    bent = knee + room * torch.tanh((magnitude - knee) / room)
    return torch.where(magnitude > knee, bent.copysign(audio), audio)
