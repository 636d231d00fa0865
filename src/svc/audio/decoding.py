"""Decoding of audio files, block by block, with a defined outcome for every kind of bad file.

libsndfile reads what is left of a truncated WAV without a word and stops with an error in a
truncated FLAC; NaN, silence and cancelling channels it does not look at. Here each of them becomes
an `AudioFileError` (or, for the channels, a decision), in one pass over the file.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from svc.audio.spec import AudioSpec
from svc.errors import UserError

AudioFault = Literal[
    "missing",
    "not a file",
    "no permission",
    "empty",
    "not audio",
    "unknown length",
    "no samples",
    "unsupported rate",
    "truncated",
    "too short",
    "not finite",
    "silent",
    "too long",
]

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
SILENCE_PEAK_DB = -80.0
"""A file whose peak is below this, relative to full scale, counts as silent."""
MIN_DURATION_S = AudioSpec().hop_samples / AudioSpec().sample_rate_hz
"""One frame of the default grid, 11.6 ms."""
CANCELLED = 1e-3
"""Below this ratio of the mean's energy to the channels' energy (-30 dB) they cancel."""

_BLOCK_VALUES = 2**15
"""Samples times channels that are decoded at a time: 0.74 s of 44.1 kHz mono."""
_STREAMED_BYTES = 0x7FFF_0000
"""Programs that write into a pipe put a size like 0xFFFFFFFF into the header: not a promise."""
_UNKNOWN_FRAMES = 2**62
_MP3_TOLERANCE_FRAMES = 2 * 1152
"""Encoder delay and padding make the tag of an MP3 exact to about two of its frames."""

Block = NDArray[np.float32]


class AudioFileError(UserError):
    """An audio file that cannot be used.

    Attributes:
        path: the file.
        fault: the kind of fault, for counting and testing.
        reason: a short sentence: what is wrong and what to do.
    """

    def __init__(self, path: Path, fault: AudioFault, reason: str) -> None:
        # All three are passed on, so that the error survives the way back from a worker process.
        super().__init__(path, fault, reason)
        self.path = path
        self.fault: AudioFault = fault
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says."""

    path: Path
    sample_rate_hz: int
    channels: int
    duration_s: float
    """An estimate for an MP3 without a length tag; exact otherwise."""
    format: str
    """Container as libsndfile names it, e.g. "WAV"."""
    subtype: str
    """Encoding as libsndfile names it, e.g. "PCM_16"."""


@dataclass
class Census:
    """What a pass over the samples of a file found; filled by `decode_blocks`."""

    frames: int = 0
    not_finite: int = 0
    """Number of values that are NaN or infinite."""
    peak: float = 0.0
    """Largest magnitude in any channel."""
    mean_energy: float = 0.0
    """Sum of squares of the mean over channels."""
    channel_energy: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    """Sum of squares of each channel."""

    def add(self, block: Block) -> None:
        """Count in the next `block` [frames, channels]."""
        self.frames += len(block)
        peak = float(max(block.max(), -block.min()))
        if not np.isfinite(peak):
            self.not_finite += int(np.count_nonzero(~np.isfinite(block)))
            return
        self.peak = max(self.peak, peak)
        if block.shape[1] > 1:
            exact = block.astype(np.float64)
            self.channel_energy = self.channel_energy + np.einsum("tc,tc->c", exact, exact)
            mean = exact.mean(axis=1)
            self.mean_energy += float(mean @ mean)

    @property
    def surviving_channel(self) -> int | None:
        """The loudest channel where the channels cancel each other, else None.

        Some stereo recordings have one channel with inverted polarity (a wrongly wired cable, a
        "wide" effect): their mean is next to nothing, though the voice is there.
        """
        average = float(self.channel_energy.mean())
        if average == 0 or self.mean_energy >= CANCELLED * average:
            return None
        return int(self.channel_energy.argmax())


def probe(path: Path) -> AudioInfo:
    """Read the header of an audio file, without decoding it.

    Raises:
        AudioFileError: missing, not a regular file, no permission, empty, not audio, no samples,
            a rate outside 8 to 192 kHz, or a header that promises more than the file holds.
    """
    with _open(Path(path)) as (_, info):
        return info


def decode_blocks(path: Path, census: Census) -> Iterator[Block]:
    """Decode a file, yielding blocks [frames, channels] as stored, and count them into `census`.

    The last check comes after the last block: a caller that keeps what it got must exhaust this
    iterator first.

    Raises:
        AudioFileError: as `probe`, and truncated, too short, NaN or infinite, silent.
    """
    with _open(path) as (file, info):
        block_frames = max(1, _BLOCK_VALUES // info.channels)
        broken = False
        while True:
            try:
                block = file.read(block_frames, dtype="float32", always_2d=True)
            except soundfile.SoundFileError:
                broken = True
                break
            if len(block) == 0:
                break
            census.add(block)
            yield block
        promised = file.frames
        if not broken and info.format == "MP3":
            exact = _has_length_tag(path)
            promised = promised - _MP3_TOLERANCE_FRAMES if exact else census.frames
        if broken or census.frames < promised:
            raise _truncated(path, census.frames, file.frames, info.sample_rate_hz)
        _check_content(info, census)


@contextmanager
def _open(path: Path) -> Iterator[tuple[soundfile.SoundFile, AudioInfo]]:
    """Open a file whose header is sound, and describe it."""
    _check_regular_file(path)
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError) as error:
        # TypeError: soundfile wants to be told the rate of a headerless .raw file.
        raise AudioFileError(
            path,
            "not audio",
            "not audio in a format that can be read (wav, flac, ogg, opus, mp3, aiff and the like)"
            ", or its header is damaged; convert or export it again as wav or flac",
        ) from error
    with file:
        info = AudioInfo(
            path=path,
            sample_rate_hz=file.samplerate,
            channels=file.channels,
            duration_s=file.frames / file.samplerate,
            format=file.format,
            subtype=file.subtype,
        )
        _check_header(file, info)
        yield file, info


def _check_regular_file(path: Path) -> None:
    if not path.exists():
        raise AudioFileError(path, "missing", "no such file; check the name")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise AudioFileError(path, "not a file", f"{kind}; name an audio file")
    if path.stat().st_size == 0:
        raise AudioFileError(path, "empty", "empty file (0 bytes); copy or export it again")
    try:
        path.open("rb").close()
    except OSError as error:
        reason = f"cannot be opened ({error.strerror}); check its permissions"
        raise AudioFileError(path, "no permission", reason) from error


def _check_header(file: soundfile.SoundFile, info: AudioInfo) -> None:
    if not MIN_RATE_HZ <= info.sample_rate_hz <= MAX_RATE_HZ:
        reason = (
            f"unsupported sample rate of {info.sample_rate_hz} Hz; resample it to between "
            f"{MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, best to 44100 Hz"
        )
        raise AudioFileError(info.path, "unsupported rate", reason)
    if file.frames >= _UNKNOWN_FRAMES:
        reason = "its header does not say how long it is; convert or export it again"
        raise AudioFileError(info.path, "unknown length", reason)
    promised = _promised_frames(file.extra_info, file.frames)
    if promised > file.frames:
        raise _truncated(info.path, file.frames, promised, info.sample_rate_hz)
    if file.frames == 0:
        reason = "holds no samples, only a header; record or export it again"
        raise AudioFileError(info.path, "no samples", reason)


def _promised_frames(log: str, frames: int) -> int:
    """How many frames the header promises, from libsndfile's parsing log.

    libsndfile reports the number that the file can hold, and what the header said only here. An Ogg
    stream without its last page says nothing about its length; one frame more is returned then.
    """
    if "lacks an end-of-stream bit" in log:
        return frames + 1
    if match := re.search(r"frame count \d+ does not match value from 'ds64' chunk of (\d+)", log):
        return int(match[1])
    # "data : 882000 (should be 440978)"; `riff` in small letters is the whole of a W64 file.
    pattern = r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)"
    if match := re.search(pattern, log, flags=re.MULTILINE):
        said, held = int(match[1]), int(match[2])
        # One byte may be missing after an odd number of bytes: the padding, which nobody hears.
        if held + 1 < said < _STREAMED_BYTES:
            return max(frames + 1, round(frames * said / held) if held else said)
    return frames


def _has_length_tag(path: Path) -> bool:
    """Whether an MP3 says its length (Xing, Info or VBRI); else libsndfile's is a guess."""
    with path.open("rb") as file:
        head = file.read(10)
        start = 0
        if head[:3] == b"ID3":
            # Four bytes of seven bits each: the size of the tag after its ten-byte header.
            start = 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
        file.seek(start)
        first_frame = file.read(256)
    return any(tag in first_frame for tag in (b"Xing", b"Info", b"VBRI"))


def _truncated(path: Path, frames: int, promised: int, rate_hz: int) -> AudioFileError:
    readable = f"{frames / rate_hz:.1f} s"
    if promised > frames + 1:
        readable += f" of {promised / rate_hz:.1f} s"
    reason = f"truncated or damaged: {readable} can be read; copy or export it again"
    return AudioFileError(path, "truncated", reason)


def _check_content(info: AudioInfo, census: Census) -> None:
    duration_s = census.frames / info.sample_rate_hz
    if duration_s < MIN_DURATION_S:
        reason = (
            f"shorter than one frame: {duration_s * 1e3:.1f} ms, at least "
            f"{MIN_DURATION_S * 1e3:.1f} ms are needed; leave it out"
        )
        raise AudioFileError(info.path, "too short", reason)
    if census.not_finite:
        values = census.frames * info.channels
        reason = (
            f"{census.not_finite} of {values} values are NaN or infinite; export it again, or "
            f"repair it in an audio editor"
        )
        raise AudioFileError(info.path, "not finite", reason)
    peak_db = 20 * np.log10(max(census.peak, sys.float_info.min))
    if peak_db < SILENCE_PEAK_DB:
        level = f"peak {peak_db:.0f} dBFS" if census.peak else "every sample is 0"
        reason = f"all silent ({level}, below {SILENCE_PEAK_DB:.0f} dBFS); leave it out"
        raise AudioFileError(info.path, "silent", reason)
