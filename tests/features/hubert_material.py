"""Small HuBERTs with random weights, under every set of published names."""

from pathlib import Path

import torch
import torchaudio
from torch import Tensor

LAYERS = 3
CHANNELS = 128
WIDTH = 32
PROJECTED = 24


def random_state(shapes: dict[str, torch.Size], seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the signal's size from layer to layer, and leave nothing at a default."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator)
        is_gain = len(shape) == 1 and name.endswith("weight")
        if is_gain or name.endswith(("original0", "weight_g")):
            state[name] = 1 + 0.1 * x.abs()
        elif len(shape) > 1:
            state[name] = x * (1.0 / x[0].numel()) ** 0.5
        else:
            state[name] = 0.05 * x
    return state


class Reference:
    """The network as torchaudio writes it, independent of fairseq2 and of svc."""

    def __init__(
        self,
        layers: int = LAYERS,
        channels: int = CHANNELS,
        width: int = WIDTH,
        projected: int = PROJECTED,
    ) -> None:
        self.model = torchaudio.models.wav2vec2_model(
            extractor_mode="group_norm",
            extractor_conv_layer_config=[(width, 10, 5)]
            + [(width, 3, 2)] * 4
            + [(width, 2, 2)] * 2,
            extractor_conv_bias=False,
            encoder_embed_dim=channels,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=128,
            encoder_pos_conv_groups=16,
            encoder_num_layers=layers,
            encoder_num_heads=channels // 64,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=4 * channels,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=False,
            encoder_layer_drop=0.0,
            aux_num_out=None,
        ).eval()
        shapes = {name: x.shape for name, x in self.model.state_dict().items()}
        self.state = random_state(shapes)
        self.model.load_state_dict(self.state)
        head = {"weight": torch.Size((projected, channels)), "bias": torch.Size((projected,))}
        self.projection = random_state(head, seed=1)
        self.projection["bias"] = 0.1 * self.projection["weight"][:, 0]

    @torch.inference_mode()
    def encode(self, audio: Tensor, layer: int, projection: bool, padding: int) -> Tensor:
        """audio [T] at 16 kHz -> [C, N]."""
        padded = torch.nn.functional.pad(audio, (padding, padding))[None]
        x = self.model.extract_features(padded, num_layers=layer)[0][-1][0]
        if projection:
            x = torch.nn.functional.linear(x, self.projection["weight"], self.projection["bias"])
        return x.T

    def published(self, layout: str) -> dict[str, Tensor]:
        """The same weights under the names of a published layout, with what else it holds."""
        if layout == "bshall":
            return self._bshall()
        names = _FAIRSEQ if layout == "fairseq" else _TRANSFORMERS
        state = {_renamed(name, names): x for name, x in self.state.items()}
        for kind, x in self.projection.items():
            state[f"final_proj.{kind}"] = x
        channels = self.projection["weight"].shape[1]
        state["mask_emb" if layout == "fairseq" else "masked_spec_embed"] = torch.ones(channels)
        if layout == "fairseq":
            state["label_embs_concat"] = torch.ones(504, self.projection["weight"].shape[0])
        return state

    def _bshall(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, x in self.state.items():
            for letter in "qkv":
                fused = name.replace(f"attention.{letter}_proj.", "self_attn.in_proj_")
                if fused != name:
                    key = _renamed(fused, _BSHALL)
                    state[key] = torch.cat([state[key], x]) if key in state else x
                    break
            else:
                state[_renamed(name, _BSHALL)] = x
        # torchaudio registers keys, values and queries; the fused matrix has queries first.
        for key in [key for key in state if "in_proj_" in key]:
            k, v, q = state[key].chunk(3)
            state[key] = torch.cat([q, k, v])
        for kind, x in self.projection.items():
            state[f"proj.{kind}"] = x
        state["masked_spec_embed"] = torch.ones(self.projection["weight"].shape[1])
        state["label_embedding.weight"] = torch.ones(100, self.projection["weight"].shape[0])
        return {f"module.{name}": x for name, x in state.items()}


_BSHALL = {
    ".conv.weight": ".weight",
    "feature_extractor.conv_layers.": "feature_extractor.conv",
    "feature_extractor.conv0.layer_norm": "feature_extractor.norm0",
    "encoder.feature_projection.layer_norm": "feature_projection.norm",
    "encoder.feature_projection": "feature_projection",
    "encoder.transformer.pos_conv_embed": "positional_embedding",
    "encoder.transformer.layer_norm": "norm",
    "encoder.transformer.layers": "encoder.layers",
    "attention.out_proj": "self_attn.out_proj",
    "final_layer_norm": "norm2",
    "layer_norm": "norm1",
    "feed_forward.intermediate_dense": "linear1",
    "feed_forward.output_dense": "linear2",
}
_FAIRSEQ = {
    "conv_layers.0.layer_norm": "conv_layers.0.2",
    ".conv.weight": ".0.weight",
    "encoder.feature_projection.layer_norm": "layer_norm",
    "encoder.feature_projection.projection": "post_extract_proj",
    "encoder.transformer.pos_conv_embed.conv": "encoder.pos_conv.0",
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "encoder.transformer": "encoder",
    "attention.": "self_attn.",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
}
_TRANSFORMERS = {
    "encoder.feature_projection": "feature_projection",
    "encoder.transformer": "encoder",
}


def _renamed(name: str, names: dict[str, str]) -> str:
    in_layer = ".transformer.layers." in name
    for old, new in names.items():
        name = name.replace(old, new)
    if in_layer and names is _FAIRSEQ and ".final_layer_norm" not in name:
        name = name.replace(".layer_norm", ".self_attn_layer_norm")
    return name


def saved(state: dict[str, Tensor], layout: str, folder: Path) -> Path:
    """A file as it is published: under the wrapper of its layout."""
    wrapper = {"bshall": "hubert", "fairseq": "model"}.get(layout)
    path = folder / f"{layout}.pt"
    torch.save({wrapper: state, "cfg": {"seed": 1}} if wrapper else state, path)
    return path
