"""What a training checkpoint says about itself, and how it is read without trusting it."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svc import __version__
from svc.audio.spec import AudioSpec
from svc.errors import UserError

FORMAT_VERSION = 1
"""Raised by one when older versions of svc could no longer read the file."""

SVC_KEY = "svc"
"""Where our facts lie in a Lightning checkpoint, as plain containers."""

_AVERAGED_PREFIX = "ema.network."
_TRAINED_PREFIX = "generator."


@dataclass(frozen=True)
class CheckpointFacts:
    """Everything besides weights that a conversion with a checkpoint needs."""

    config: dict[str, Any]
    """The resolved configuration of the run: plain dicts, lists, strings, numbers, None."""
    audio: AudioSpec
    """Framing and mel that the model was trained with."""
    features: dict[str, Any]
    """Resolved extraction settings, plain."""
    feature_fingerprint: str
    """Fingerprint of these settings, as in the feature store."""
    speakers: list[str]
    """Names in the order of their indices."""
    content_channels: int
    """Width of the content features."""
    svc_version: str = __version__
    """The version that wrote the file."""
    format_version: int = FORMAT_VERSION
    """Version of this layout."""

    def run_time_arguments(self, generator: Mapping[str, Any]) -> dict[str, Any]:
        """What the node of a generator does not say, because only the data knew it."""
        if "conditioner" not in generator:
            return {}
        known = {"content_channels": self.content_channels, "speakers": len(self.speakers)}
        return {"conditioner": known}

    def to_plain(self) -> dict[str, Any]:
        """Nested dicts and lists of plain values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "CheckpointFacts":
        """The inverse of `to_plain`.

        Raises:
            UserError: made by a newer version, or a fact is missing.
        """
        version = plain.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise UserError(
                f"was written by svc {plain.get('svc_version', '?')} in format {version}; this "
                f"svc {__version__} reads formats up to {FORMAT_VERSION}. Install "
                f"a newer version of svc."
            )
        try:
            values = {name: plain[name] for name in cls.__dataclass_fields__}
            return cls(**{**values, "audio": AudioSpec(**plain["audio"])})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"lacks facts about the model ({error}); it is damaged or not made by svc-train."
            ) from error


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run stands, besides Lightning's own counters."""

    batches_seen: int = 0
    """Training batches consumed, those of skipped steps included; the position in the data."""
    skipped_steps: int = 0
    """Steps that came to nothing because of a NaN or infinite loss or gradient."""


def write_svc_state(
    checkpoint: dict[str, Any],
    facts: CheckpointFacts | None,
    progress: TrainingProgress,
    scalers: dict[str, dict[str, Any]],
) -> None:
    """Put our part into a Lightning checkpoint that is about to be saved.

    Args:
        checkpoint: changed in place.
        facts: about the model; without them the file serves for resuming only.
        progress: of the run.
        scalers: state of each network's loss scaler; empty dicts without loss scaling.
    """
    checkpoint[SVC_KEY] = {
        "facts": facts.to_plain() if facts is not None else None,
        "progress": asdict(progress),
        "scalers": scalers,
    }


def read_svc_state(checkpoint: Mapping[str, Any]) -> tuple[TrainingProgress, dict[str, Any]]:
    """Progress and loss scalers out of a checkpoint that `write_svc_state` has been at."""
    state = checkpoint[SVC_KEY]
    return TrainingProgress(**state["progress"]), state["scalers"]


def load_training_checkpoint(path: str | Path) -> tuple[CheckpointFacts, dict[str, Tensor]]:
    """Facts and generator weights of a training checkpoint, on the CPU.

    The file is read with `weights_only=True`, so that it cannot run code. The moving average of
    the generator's weights is preferred to the weights being trained.

    Raises:
        UserError: no such file, not a checkpoint, cut short, from a newer version, without our
            facts, or with NaN or infinite weights.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    plain = checkpoint[SVC_KEY]["facts"]
    if plain is None:
        raise UserError(
            f"The checkpoint {path} holds no facts about its model (configuration, speakers, "
            f"features), so that it can be resumed but not converted with."
        )
    try:
        facts = CheckpointFacts.from_plain(plain)
    except UserError as error:
        raise UserError(f"The checkpoint {path} {error}") from error
    weights = _generator_weights(checkpoint.get("state_dict", {}))
    if not weights:
        raise UserError(f"The checkpoint {path} holds no weights of a generator.")
    broken = [
        name
        for name, value in weights.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        raise UserError(
            f"The checkpoint {path} has NaN or infinite values in {len(broken)} of {len(weights)} "
            f"weights, for example {broken[0]}. Use an earlier checkpoint of the run."
        )
    return facts, weights


def load_progress(path: str | Path) -> TrainingProgress:
    """Where the run stood when the checkpoint was written; does not read the weights.

    Raises:
        UserError: see `load_training_checkpoint`.
    """
    return read_svc_state(read_checkpoint(Path(path)))[0]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The whole Lightning checkpoint, with tensors mapped from the file rather than read.

    Raises:
        UserError: no such file, not a checkpoint, cut short, or not one of ours.
    """
    if not path.is_file():
        raise UserError(
            f"There is no checkpoint {path}. Give the path of a .ckpt file, such as "
            f"checkpoints/best.ckpt in the folder of a run."
        )
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if not is_zip:
        raise UserError(
            f"{path} is not a checkpoint (it does not start like one). Give the .ckpt file that "
            f"svc-train wrote."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds objects that are not plain data and is not loaded, because they could "
            f"run code. It was not made by svc-train ({str(error).splitlines()[0]})."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"The checkpoint {path} cannot be read; it is probably cut short "
            f"({str(error).splitlines()[0]}). Copy it again, or use another one of the run."
        ) from error
    if not isinstance(checkpoint, dict) or not _is_ours(checkpoint.get(SVC_KEY)):
        raise UserError(
            f"{path} is a PyTorch file, but not a checkpoint of svc-train: it lacks the facts "
            f"about its model. Checkpoints of other toolkits have to be converted first."
        )
    return checkpoint


def _is_ours(state: Any) -> bool:
    return isinstance(state, dict) and {"facts", "progress", "scalers"} <= state.keys()


def _generator_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights where there are any, else the trained ones, without their prefix."""
    for prefix in (_AVERAGED_PREFIX, _TRAINED_PREFIX):
        found = {
            name.removeprefix(prefix): value
            for name, value in state_dict.items()
            if name.startswith(prefix)
        }
        if found:
            return found
    return {}
