"""What a training checkpoint says about itself, and how it is read without trusting it."""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svc.checkpoints.facts import CheckpointFacts
from svc.checkpoints.safe_reading import DAMAGE, require_bounded, require_bounded_zip
from svc.checkpoints.slim_file import require_finite
from svc.errors import UserError
from svc.models.lora import merged_lora_state

SVC_KEY = "svc"
"""Where our facts lie in a Lightning checkpoint, as plain containers."""

_AVERAGED_PREFIX = "ema.network."
_TRAINED_PREFIX = "generator."
_JUDGE_PREFIX = "discriminator."


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


def load_trained_state(path: str | Path) -> tuple[CheckpointFacts, dict[str, Tensor]]:
    """Facts and generator weights of a training checkpoint, on the CPU, as they were trained: with
    low-rank updates beside the weights. (`svc.checkpoints.model_file` reads models to sing with.)

    The file is read with `weights_only=True`, so that it cannot run code. The moving average of
    the generator's weights is preferred to the weights being trained.

    Raises:
        UserError: no such file, not a checkpoint, cut short, from a newer version, without our
            facts, or with NaN or infinite weights.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    return facts_in(checkpoint, path), _trained_state(checkpoint, path)


def facts_in(checkpoint: Mapping[str, Any], path: Path) -> CheckpointFacts:
    """What a checkpoint that `read_checkpoint` returned says about its model.

    Raises:
        UserError: nothing, or what this version cannot read; names `path`.
    """
    plain = checkpoint[SVC_KEY]["facts"]
    if plain is None:
        raise UserError(
            f"The checkpoint {path} holds no facts about its model (configuration, speakers, "
            f"features), so that it can be resumed but not converted with."
        )
    try:
        return CheckpointFacts.from_plain(plain)
    except UserError as error:
        raise UserError(f"The checkpoint {path} {error}") from error


def generator_in(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Weights of the generator, their moving average where there is one, without a prefix and with
    low-rank updates merged into them.

    Raises:
        UserError: there are none, or they are NaN, infinite or incomplete; names `path`.
    """
    try:
        return merged_lora_state(_trained_state(checkpoint, path))
    except ValueError as error:
        raise UserError(f"The checkpoint {path} is damaged: {error}.") from error


def discriminator_in(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Weights of the discriminator without a prefix; empty where the model has none.

    Raises:
        UserError: they are NaN or infinite; names `path`.
    """
    weights = _below(_JUDGE_PREFIX, checkpoint.get("state_dict", {}))
    require_finite(weights, f"The checkpoint {path}")
    return weights


def load_progress(path: str | Path) -> TrainingProgress:
    """Where the run stood when the checkpoint was written; does not read the weights.

    Raises:
        UserError: see `read_checkpoint`.
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
        checkpoint = own_checkpoint(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds objects that are not plain data and is not loaded, because they could "
            f"run code. It was not made by svc-train ({str(error).splitlines()[0]})."
        ) from error
    if checkpoint is None:
        raise UserError(
            f"{path} is a PyTorch file, but not a checkpoint of svc-train: it lacks the facts "
            f"about its model. Checkpoints of other toolkits have to be converted first."
        )
    return checkpoint


def own_checkpoint(path: Path) -> dict[str, Any] | None:
    """What torch saved in a zip file as `read_checkpoint` returns it; None where it is plain data,
    but not a checkpoint of ours.

    Raises:
        UserError: it is cut short, damaged, or made to fill the memory.
        pickle.UnpicklingError: it holds objects that are not plain data; nothing was run.
    """
    try:
        require_bounded_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that turn out to be others'
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise
    except DAMAGE as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"The checkpoint {path} cannot be read; it is probably cut short ({what}). Copy it "
            f"again, or use another one of the run."
        ) from error
    if not isinstance(checkpoint, dict) or not _is_ours(checkpoint.get(SVC_KEY)):
        return None
    state = checkpoint.get("state_dict", {})
    if not isinstance(state, dict):
        raise UserError(f"The checkpoint {path} holds no weights by name; it is damaged.")
    weights = [value for value in state.values() if torch.is_tensor(value)]
    require_bounded(sum(weight.numel() * weight.element_size() for weight in weights), path)
    return checkpoint


def _is_ours(state: Any) -> bool:
    return isinstance(state, dict) and {"facts", "progress", "scalers"} <= state.keys()


def _trained_state(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    weights = _generator_weights(checkpoint.get("state_dict", {}))
    if not weights:
        raise UserError(f"The checkpoint {path} holds no weights of a generator.")
    require_finite(weights, f"The checkpoint {path}")
    return weights


def _generator_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights where there are any, else the trained ones, without their prefix."""
    return _below(_AVERAGED_PREFIX, state_dict) or _below(_TRAINED_PREFIX, state_dict)


def _below(prefix: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
