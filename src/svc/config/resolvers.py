"""Values in conf/ that are computed from other values."""

import hashlib
import os
import re
from pathlib import Path

from omegaconf import OmegaConf

SWEPT_FEATURES = "SVC_SWEPT_FEATURES"
"""Tells jobs of a sweep which settings of the features it goes over."""


def store_name(dataset_path: str) -> str:
    """Name of the prepared dataset of a folder: its own name and six digits of its whole path.

    The digits keep `a/vocals` and `b/vocals` apart.
    """
    path = Path(dataset_path).expanduser().resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def store_suffix() -> str:
    """What tells a sweep's prepared datasets apart where it goes over single settings of their
    features: `-f0_max_hz=900`; nothing elsewhere.

    SVC_SWEPT_FEATURES names these settings; every job has its own values of them.
    """
    swept = os.environ.get(SWEPT_FEATURES, "").split()
    if not swept:
        return ""
    from hydra.core.hydra_config import HydraConfig

    typed = [
        str(override).lstrip("+").partition("=") for override in HydraConfig.get().overrides.task
    ]
    values = [f"{key.rpartition('.')[2]}={value}" for key, _, value in typed if key in swept]
    return "".join(f"-{_as_file_name(value)}" for value in values)


def _as_file_name(text: str) -> str:
    """The text itself where it is short and plain, otherwise something as good as unique."""
    plain = re.sub(r"[^\w.=+-]+", "_", text)
    if plain == text and len(text) < 40:
        return text
    return f"{plain[:30]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def gpu_count() -> int:
    """CUDA devices of this machine, at least 1."""
    import torch

    return max(torch.cuda.device_count(), 1)


def register_resolvers() -> None:
    """Make `${store_name:…}`, `${store_suffix:}` and `${gpu_count:}` known to OmegaConf."""
    OmegaConf.register_new_resolver("store_name", store_name, replace=True)
    OmegaConf.register_new_resolver("store_suffix", store_suffix, replace=True)
    OmegaConf.register_new_resolver("gpu_count", gpu_count, replace=True)
