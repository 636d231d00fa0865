"""What tells one prepared dataset from another: by content, not by where it lies."""

from svc.data.settings import fingerprint_of
from svc.data.store import FeatureStore, SliceRecord

READ_BY_EVERY_TRAINING = ("audio", "content", "f0", "energy")
"""Features whose settings count. Stored mels and content variants are read on demand only; what
they must be like is in the settings of the training that reads them."""


def dataset_fingerprint(store: FeatureStore) -> str:
    """Sixteen hexadecimal digits that change whenever what a training reads of a dataset does.

    They depend on the slices (id, speaker, hash of the recording, place in it, length), on their
    split into training and validation, on the speaker table, and on the settings that the features
    were extracted with; not on the folder or on when and in what order it was prepared. Neither
    audio nor features are read.

    Args:
        store: the prepared dataset.
    """
    return fingerprint_of(
        {
            "slices": sorted(_what_is_read(record) for record in store.slices),
            "speakers": list(store.speakers),
            "features": feature_marks(store),
        }
    )


def feature_marks(store: FeatureStore) -> dict[str, str]:
    """Of each feature that every training reads, the fingerprint of its settings."""
    of_all = store.meta.settings.feature_fingerprints()
    return {feature: of_all[feature] for feature in READ_BY_EVERY_TRAINING}


def _what_is_read(record: SliceRecord) -> tuple[str, str, str, int, int, int, str]:
    return (
        record.id,
        record.speaker,
        record.source_sha256,
        record.start_sample,
        record.frames,
        record.content_frames,
        record.split,
    )
