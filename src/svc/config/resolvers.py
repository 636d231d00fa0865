"""Values in conf/ that are computed from other values."""

import hashlib
from pathlib import Path

from omegaconf import OmegaConf


def store_name(dataset_path: str) -> str:
    """Name of the prepared dataset of a folder: its own name and six digits of its whole path.

    The digits keep `a/vocals` and `b/vocals` apart.
    """
    path = Path(dataset_path).expanduser().resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def gpu_count() -> int:
    """CUDA devices of this machine, at least 1."""
    import torch

    return max(torch.cuda.device_count(), 1)


def register_resolvers() -> None:
    """Make `${store_name:…}` and `${gpu_count:}` known to OmegaConf."""
    OmegaConf.register_new_resolver("store_name", store_name, replace=True)
    OmegaConf.register_new_resolver("gpu_count", gpu_count, replace=True)
