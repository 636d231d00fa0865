"""What the published layouts of HuBERT weights call their tensors.

- `bshall`: hubert-soft-0d54a1f4.pt of bshall/hubert; queries, keys and values are one matrix.
- `fairseq`: checkpoints that fairseq trained, such as ContentVec's checkpoint_best_legacy_500.pt.
- `transformers`: HubertModel, with or without a task's prefix `hubert.`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class HubertNames:
    """What a published layout calls the tensors; {} stands for a number."""

    name: str
    convolution: str
    group_norm: str
    feature_norm: str
    feature_projection: str
    position: str
    norm: str
    layer: str
    """Prefix of a transformer layer."""
    attention: dict[str, str]
    """Ours to theirs, below a layer; without `.weight` and `.bias`."""
    rest_of_layer: dict[str, str]
    projection: str
    unused: tuple[str, ...]
    """Beginnings of names that are of use in training only."""
    fused_attention: str | None = None
    """Name of one matrix [3C, C] in the place of queries, keys and values, below a layer."""


_BSHALL = HubertNames(
    name="bshall",
    convolution="feature_extractor.conv{}.weight",
    group_norm="feature_extractor.norm0",
    feature_norm="feature_projection.norm",
    feature_projection="feature_projection.projection",
    position="positional_embedding.conv",
    norm="norm",
    layer="encoder.layers.{}.",
    attention={"self_attn.output_proj": "self_attn.out_proj"},
    fused_attention="self_attn.in_proj_",
    rest_of_layer={
        "self_attn_layer_norm": "norm1",
        "ffn.inner_proj": "linear1",
        "ffn.output_proj": "linear2",
        "ffn_layer_norm": "norm2",
    },
    projection="proj",
    unused=("masked_spec_embed", "label_embedding."),
)

_FAIRSEQ = HubertNames(
    name="fairseq",
    convolution="feature_extractor.conv_layers.{}.0.weight",
    group_norm="feature_extractor.conv_layers.0.2",
    feature_norm="layer_norm",
    feature_projection="post_extract_proj",
    position="encoder.pos_conv.0",
    norm="encoder.layer_norm",
    layer="encoder.layers.{}.",
    attention={
        "self_attn.q_proj": "self_attn.q_proj",
        "self_attn.k_proj": "self_attn.k_proj",
        "self_attn.v_proj": "self_attn.v_proj",
        "self_attn.output_proj": "self_attn.out_proj",
    },
    rest_of_layer={
        "self_attn_layer_norm": "self_attn_layer_norm",
        "ffn.inner_proj": "fc1",
        "ffn.output_proj": "fc2",
        "ffn_layer_norm": "final_layer_norm",
    },
    projection="final_proj",
    unused=("mask_emb", "label_embs_concat", "target_glu."),
)

_TRANSFORMERS = HubertNames(
    name="transformers",
    convolution="feature_extractor.conv_layers.{}.conv.weight",
    group_norm="feature_extractor.conv_layers.0.layer_norm",
    feature_norm="feature_projection.layer_norm",
    feature_projection="feature_projection.projection",
    position="encoder.pos_conv_embed.conv",
    norm="encoder.layer_norm",
    layer="encoder.layers.{}.",
    attention={
        "self_attn.q_proj": "attention.q_proj",
        "self_attn.k_proj": "attention.k_proj",
        "self_attn.v_proj": "attention.v_proj",
        "self_attn.output_proj": "attention.out_proj",
    },
    rest_of_layer={
        "self_attn_layer_norm": "layer_norm",
        "ffn.inner_proj": "feed_forward.intermediate_dense",
        "ffn.output_proj": "feed_forward.output_dense",
        "ffn_layer_norm": "final_layer_norm",
    },
    projection="final_proj",
    unused=("masked_spec_embed", "lm_head.", "projector.", "classifier."),
)

HUBERT_LAYOUTS = (_BSHALL, _FAIRSEQ, _TRANSFORMERS)
"""Of every known layout."""
