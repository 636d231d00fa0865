"""A corpus of unusable audio files, one for every way in which a recording can be bad."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from svc.audio.io import AudioFault

EXPECTED_FAULTS: dict[str, AudioFault] = {
    "missing": "missing",
    "folder": "not a file",
    "empty": "empty",
    "only a header": "no samples",
    "text": "not audio",
    "text as mp3": "not audio",
    "cut in the header": "not audio",
    "raw": "not audio",
    "unsupported container": "not audio",
    "truncated wav": "truncated",
    "truncated 24-bit wav": "truncated",
    "wav without its data": "truncated",
    "truncated rf64": "truncated",
    "truncated w64": "truncated",
    "truncated aiff": "truncated",
    "truncated flac": "truncated",
    "truncated ogg": "truncated",
    "truncated opus": "truncated",
    "truncated mp3": "truncated",
    "flac with garbage inside": "truncated",
    "streamed flac": "unknown length",
    "nan": "not finite",
    "infinity": "not finite",
    "zeros": "silent",
    "below -80 dB": "silent",
    "shorter than a frame": "too short",
    "4 kHz": "unsupported rate",
    "384 kHz": "unsupported rate",
}
"""Fault that reading each entry of the corpus must end in."""


def tone(seconds: float = 2.0, rate_hz: int = 44_100, seed: int = 0) -> NDArray[np.float32]:
    """A usable signal [T]: a sine with some noise, so that no coder makes it tiny."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.3 * np.sin(2 * np.pi * 220 * time_s) + 0.02 * noise).astype(np.float32)


def write_bad_audio_corpus(folder: Path) -> dict[str, Path]:
    """Write every entry of `EXPECTED_FAULTS` below `folder` and return their paths by name.

    "missing" is a path where nothing is, "folder" a folder that is called like an audio file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"missing": folder / "missing.wav", "folder": folder / "folder.wav"}
    paths["folder"].mkdir()

    def put(name: str, suffix: str, content: bytes) -> None:
        paths[name] = folder / f"{name}{suffix}"
        paths[name].write_bytes(content)

    def save(
        name: str,
        samples: NDArray[np.float32],
        suffix: str = ".wav",
        rate_hz: int = 44_100,
        subtype: str | None = None,
        container: str | None = None,
    ) -> bytes:
        paths[name] = folder / f"{name}{suffix}"
        soundfile.write(paths[name], samples, rate_hz, subtype=subtype, format=container)
        return paths[name].read_bytes()

    put("empty", ".wav", b"")
    put("text", ".wav", b"These are my notes about the recording.\n" * 50)
    put("text as mp3", ".mp3", b"These are my notes about the recording.\n" * 50)
    put("raw", ".raw", tone().tobytes())
    put("unsupported container", ".m4a", b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(2000))
    save("only a header", tone(0))

    whole = save("truncated wav", tone())
    put("truncated wav", ".wav", whole[: len(whole) // 3])
    put("cut in the header", ".wav", whole[:20])
    put("wav without its data", ".wav", whole[:44])
    for name, suffix, rate_hz, container, subtype in [
        ("truncated 24-bit wav", ".wav", 44_100, "WAV", "PCM_24"),
        ("truncated rf64", ".wav", 44_100, "RF64", "PCM_16"),
        ("truncated w64", ".w64", 44_100, "W64", "PCM_16"),
        ("truncated aiff", ".aiff", 44_100, "AIFF", "PCM_16"),
        ("truncated flac", ".flac", 44_100, "FLAC", "PCM_16"),
        ("truncated ogg", ".ogg", 44_100, "OGG", "VORBIS"),
        ("truncated opus", ".opus", 48_000, "OGG", "OPUS"),
        ("truncated mp3", ".mp3", 44_100, "MP3", "MPEG_LAYER_III"),
    ]:
        content = save(name, tone(rate_hz=rate_hz), suffix, rate_hz, subtype, container)
        put(name, suffix, content[: 3 * len(content) // 4])

    flac = bytearray(save("flac with garbage inside", tone(), ".flac"))
    flac[len(flac) // 2 : len(flac) // 2 + 20_000] = bytes(20_000)
    put("flac with garbage inside", ".flac", bytes(flac))
    flac = bytearray(save("streamed flac", tone(), ".flac"))
    # The 36 bits of STREAMINFO that hold the number of samples: 0 means unknown.
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    put("streamed flac", ".flac", bytes(flac))

    broken = tone()
    broken[1000:1003] = np.nan
    save("nan", broken, subtype="FLOAT")
    broken = tone()
    broken[-1] = np.inf
    save("infinity", broken, subtype="FLOAT")
    save("zeros", np.zeros(44_100, np.float32))
    save("below -80 dB", 1e-4 * tone(), subtype="PCM_24")
    save("shorter than a frame", tone(0.01))
    save("4 kHz", tone(rate_hz=4_000), rate_hz=4_000)
    save("384 kHz", tone(0.2, rate_hz=384_000), rate_hz=384_000)
    return paths
