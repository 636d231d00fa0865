"""Which published layout a state dict is of."""

import re
from collections.abc import Collection, Mapping

from svc.checkpoints.layouts.base import Layout
from svc.checkpoints.layouts.diffsvc_fish import FishDiffSvc
from svc.checkpoints.layouts.diffsvc_original import OriginalDiffSvc
from svc.checkpoints.layouts.hifisinger_fish import FishHifiSinger
from svc.checkpoints.layouts.nsf_hifigan import NsfHifiGanLayout
from svc.errors import UserError

LAYOUTS: tuple[Layout, ...] = (
    FishHifiSinger(),
    FishDiffSvc(),
    OriginalDiffSvc(),
    NsfHifiGanLayout(),
)
"""Every published model that svc converts with or renders with. The vocoder is last, because the
others may carry one."""

_TYPICAL: Mapping[str, tuple[str, ...]] = {
    "diffsvc_fish": (
        "model.text_encoder.projection.weight",
        "model.speaker_encoder.embedding.weight",
        "model.diffusion.denoise_fn.residual_layers.0.conv_layer.conv.weight",
        "model.diffusion.spec_min",
    ),
    "diffsvc_original": (
        "model.denoise_fn.residual_layers.0.dilated_conv.weight",
        "model.fs2.pitch_embed.weight",
        "model.spec_min",
    ),
    "hifisinger_fish": (
        "generator.text_encoder.projection.weight",
        "generator.feature_fuser.0.weight",
        "generator.encoder.conv_pre.weight_v",
        "mpd.discriminators.0.convs.0.weight_v",
    ),
    "nsf_hifigan": (
        "conv_pre.weight_v",
        "ups.0.weight_v",
        "noise_convs.0.weight",
        "resblocks.0.convs1.0.weight_v",
        "m_source.l_linear.weight",
    ),
    "hubert": (
        "feature_extractor.conv_layers.0.0.weight",
        "encoder.layers.0.self_attn.k_proj.weight",
        "post_extract_proj.weight",
        "feature_projection.projection.weight",
    ),
    "rmvpe": ("unet.encoder.layers.0.conv.0.conv.0.weight", "cnn.weight", "fc.0.gru.weight_hh_l0"),
}
"""Names by which the nearest layout is told of a file that is of none."""

_OTHERS = {
    "so-vits-svc or RVC": ("enc_p.", "dec.", "flow."),
    "DDSP-SVC": ("unit2ctrl.",),
}
"""Beginnings of names of models that svc cannot run."""


def description_of(kind: str) -> str:
    """What a layout is, for people; the kind itself where it is none of `LAYOUTS`."""
    return next((layout.description for layout in LAYOUTS if layout.kind == kind), kind)


def recognise(names: Collection[str]) -> Layout:
    """The layout of a state dict with these names.

    Raises:
        UserError: it is of none; names the nearest.
    """
    for layout in LAYOUTS:
        if layout.matches(names):
            return layout
    shown = ", ".join(sorted(names)[:6])
    other = next(
        (
            what
            for what, beginnings in _OTHERS.items()
            if all(any(name.startswith(b) for name in names) for b in beginnings)
        ),
        None,
    )
    if other is not None:
        raise UserError(f"looks like {other}, which svc cannot run (it holds {shown}, …).")
    known = "; ".join(f"{layout.kind} ({layout.description})" for layout in LAYOUTS)
    raise UserError(
        f"is in no layout that svc knows. It holds {len(names)} weights: {shown}, …\n"
        f"{_nearest(names)}Known: {known}; HuBERT and its relatives; RMVPE."
    )


def _nearest(names: Collection[str]) -> str:
    """A sentence on the layout that shares the most parts of names, or nothing."""
    parts = _parts(names)
    shares = {
        kind: len(parts & _parts(typical)) / len(_parts(typical))
        for kind, typical in _TYPICAL.items()
    }
    kind = max(shares, key=lambda kind: shares[kind])
    if shares[kind] < 0.2:
        return ""
    lacking = next((name for name in _TYPICAL[kind] if name not in names), None)
    return f"Nearest is {kind}, which has names such as {lacking}. "


def _parts(names: Collection[str]) -> set[str]:
    """The words between the dots, without numbers and what every model has."""
    words = {word for name in names for word in name.split(".")}
    return {w for w in words if not re.fullmatch(r"\d+|weight(_[gv])?|bias|model", w)}
