"""Published checkpoints of other toolkits, read into our terms. Nothing in them is executed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from svc.checkpoints.finite import non_finite
from svc.checkpoints.layouts.base import LayoutOptions, PublishedModel
from svc.checkpoints.layouts.nsf_hifigan import NsfHifiGanLayout
from svc.checkpoints.layouts.recognition import recognise
from svc.checkpoints.layouts.training_config import filled, is_training_config, options_of_config
from svc.checkpoints.safe_reading import PublishedFile, read_published_file
from svc.errors import UserError

_VOCODER_CONFIG = "config.json"
_SPEAKERS = "speaker_encoder.embedding.weight"
_NAMES_SHOWN = 6


def read_published(path: Path, options: LayoutOptions | None = None) -> PublishedModel:
    """The model in a published checkpoint, whichever of the known layouts it is in.

    What a configuration inside the file tells, and for a vocoder a config.json beside it, is taken
    where `options` leave it open.

    Raises:
        UserError: the file cannot be read, is of no known layout, lacks weights or has some of
            wrong shapes, or holds NaN or infinite values; names what is wrong.
    """
    return published_model(read_published_file(path), path, options or LayoutOptions())


def published_model(file: PublishedFile, path: Path, options: LayoutOptions) -> PublishedModel:
    """As `read_published`, of a file that is read already."""
    try:
        layout = recognise(file.weights.keys())
    except UserError as error:
        raise UserError(f"{path} {error}") from error
    require_finite(file.weights, path)
    notes = []
    if is_training_config(file.config):
        known = _fitting(options_of_config(file.config), file.weights)
        if filled(options, known) != options:
            notes.append("What its weights do not tell is taken from the configuration inside it.")
        options = filled(options, known)
    beside = path.parent / _VOCODER_CONFIG
    if layout.kind == NsfHifiGanLayout.kind and options.vocoder_config is None and beside.is_file():
        options = replace(options, vocoder_config=str(beside))
        notes.append(f"Its {_VOCODER_CONFIG} was found beside it.")
    try:
        model = layout.read(file.weights, options)
    except UserError as error:
        raise UserError(f"{path} ({layout.description}) cannot be imported: {error}") from error
    if file.left_aside:
        shown = ", ".join(file.left_aside[:_NAMES_SHOWN])
        more = len(file.left_aside) - _NAMES_SHOWN
        rest = f" and {more} more" if more > 0 else ""
        notes.append(f"Beside its weights the file holds {shown}{rest}, which are left aside.")
    report = replace(model.report, notes=(*notes, *model.report.notes))
    return replace(model, report=report)


def _fitting(known: LayoutOptions, weights: Mapping[str, Tensor]) -> LayoutOptions:
    """What a configuration says, without what is of parts that the weights do not have: its pitch
    encoder may be the source's, and its speakers fewer than the table has room for."""
    if not any("pitch_encoder." in name for name in weights):
        known = replace(known, pitch_encoding=None)
    tables = [w for name, w in weights.items() if name.endswith(_SPEAKERS)]
    if known.speakers and any(len(known.speakers) != len(table) for table in tables):
        known = replace(known, speakers=None)
    return known


def require_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that hold NaN or infinite values.

    Raises:
        UserError: names the first of them, and says how many there are.
    """
    broken = non_finite(weights)
    if broken:
        shown = ", ".join(broken[:_NAMES_SHOWN])
        raise UserError(
            f"{path} holds NaN or infinite values in {len(broken)} of {len(weights)} weights "
            f"({shown}{', …' if len(broken) > _NAMES_SHOWN else ''}): its training diverged, or "
            f"the file is damaged. Take an earlier checkpoint of it."
        )
