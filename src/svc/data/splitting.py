"""Which recordings are held out for validation."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from svc.data.store import SliceRecord

_HELD_OUT_SLICES = 0.1
"""Share of a lone recording's slices that validation gets; slices are coarse."""


def split_slices(
    slices: Sequence[SliceRecord],
    *,
    seed: int,
    valid_fraction: float = 0.05,
    valid_files: int | None = None,
) -> tuple[list[SliceRecord], list[str]]:
    """Assign every slice to training or validation, whole recordings at a time.

    Per speaker, recordings are put in an order that a hash of the seed and their name decides, and
    the first of them are held out: at least one where the speaker has two, and never all. The order
    of those that are there does not change when recordings are added.

    A speaker with a single recording is trained on wholly. Only where that leaves nothing to
    validate on at all, the last slices of such recordings are held out (slices do not overlap).

    Args:
        slices: all slices of the dataset.
        seed: changes which recordings are held out.
        valid_fraction: share of a speaker's recordings that is held out, 0 to 1; 0 holds out none.
        valid_files: number of recordings per speaker that are held out, in place of the fraction.

    Returns:
        The slices with their split, in the order given, and sentences about what was unusual.
    """
    sources: dict[str, set[str]] = defaultdict(set)
    for record in slices:
        sources[record.speaker].add(record.source)
    held_out: set[str] = set()
    for names in sources.values():
        ordered = sorted(names, key=lambda name: _rank(seed, name))
        count = round(valid_fraction * len(ordered)) if valid_files is None else valid_files
        if valid_fraction > 0 and valid_files is None:
            count = max(count, 1)
        held_out.update(ordered[: min(count, len(ordered) - 1)])
    wants_none = valid_files == 0 or (valid_files is None and valid_fraction == 0)
    if held_out or wants_none:
        notes = [
            f"{speaker} has a single recording, so none of it is held out for validation."
            for speaker, names in sorted(sources.items())
            if len(names) == 1 and not wants_none
        ]
        return [_with(record, record.source in held_out) for record in slices], notes
    return _split_lone_recordings(slices)


def _split_lone_recordings(
    slices: Sequence[SliceRecord],
) -> tuple[list[SliceRecord], list[str]]:
    """Hold out the last slices of recordings, each its speaker's only one."""
    by_source: dict[str, list[SliceRecord]] = defaultdict(list)
    for record in slices:
        by_source[record.source].append(record)
    held_out: set[str] = set()
    notes = []
    for source, records in sorted(by_source.items()):
        count = min(max(round(_HELD_OUT_SLICES * len(records)), 1), len(records) - 1)
        last = sorted(records, key=lambda record: record.start_sample)[len(records) - count :]
        held_out.update(record.id for record in last)
        notes.append(
            f"{source} is its speaker's only recording: its last {count} slice(s) of "
            f"{len(records)} are held out for validation."
            if count
            else f"{source} is its speaker's only recording and a single slice: nothing of it is "
            f"held out for validation."
        )
    return [_with(record, record.id in held_out) for record in slices], notes


def _with(record: SliceRecord, held_out: bool) -> SliceRecord:
    return replace(record, split="valid" if held_out else "train")


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
