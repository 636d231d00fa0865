"""The published weights of RMVPE, which svc's network takes under the same names."""

from pathlib import Path

import torch
from torch import Tensor

from svc.checkpoints.safe_reading import read_state_dict
from svc.errors import UserError
from svc.models.rmvpe import Rmvpe, RmvpeSize, state_faults

_FAULTS_SHOWN = 8


def load_rmvpe(file: Path) -> Rmvpe:
    """The network with the weights of a file, of the published or another size.

    Raises:
        UserError: the file does not hold RMVPE's weights; it says which are missing or wrong.
    """
    return rmvpe_of(read_state_dict(file), file)


def rmvpe_of(state: dict[str, Tensor], file: Path) -> Rmvpe:
    """As `load_rmvpe`, of weights that are read already; `file` is for messages."""
    last = state.get("cnn.weight")
    published = last is None or last.dim() != 4
    size = RmvpeSize() if last is None or published else RmvpeSize.of(state, last.shape[1])
    if min(size.channels, size.levels, size.blocks, size.bottom_layers, size.gru_layers) < 1:
        size = RmvpeSize()
    with torch.device("meta"):  # no time for random weights
        network = Rmvpe(size)
    faults = state_faults(state, network)
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults[:_FAULTS_SHOWN])
        more = len(faults) - _FAULTS_SHOWN
        rest = f"\n  and {more} more" if more > 0 else ""
        raise UserError(
            f"pitch.model: {file} does not hold the weights of RMVPE:\n{shown}{rest}\n"
            "Expected the published rmvpe.pt, or its tensors under the same names as safetensors."
        )
    network.to_empty(device="cpu").load_state_dict(state, strict=False)
    return network
