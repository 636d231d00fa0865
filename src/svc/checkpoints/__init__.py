"""Files of weights: our own, and those that others publish."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svc.checkpoints.importing import ImportedCheckpoint, import_checkpoint

__all__ = ["ImportedCheckpoint", "import_checkpoint"]


def __getattr__(name: str) -> Any:
    """What is exported comes when it is asked for: it imports torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from svc.checkpoints import importing

    return getattr(importing, name)
