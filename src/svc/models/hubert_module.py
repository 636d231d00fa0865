"""HuBERT as one plain module, without what makes `HubertContent` fast: to be looked into."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from svc.models.hubert import SEEN_SAMPLES, built_encoder
from svc.models.hubert_weights import HubertWeights


class HubertModule(nn.Module):
    """Waveform to content.

    Args:
        weights: in svc's form; the parameters are these very tensors.
        padding_samples: zeros at both ends, as the model was trained.

    Raises:
        UserError: fairseq2 is not installed.
    """

    def __init__(self, weights: HubertWeights, padding_samples: int = 0) -> None:
        super().__init__()
        self.frontend, self.encoder = built_encoder(weights)
        self.padding_samples = padding_samples
        self.projection: nn.Module = nn.Identity()
        self.channels = weights.shape.projected_channels or weights.shape.channels
        if weights.shape.projected_channels is not None:
            self.projection = nn.Linear(weights.shape.channels, self.channels)
            state = {kind: weights.tensors[f"projection.{kind}"] for kind in ("weight", "bias")}
            self.projection.load_state_dict(state)
        self.requires_grad_(False).eval()

    def forward(self, audio: Tensor) -> Tensor:
        """audio [B, T] float32 at 16 kHz, T >= 400 with the padding -> [B, N, C].

        Raises:
            ValueError: the shape is wrong, or there are too few samples.
        """
        padding = self.padding_samples
        if audio.ndim != 2 or audio.shape[1] + 2 * padding < SEEN_SAMPLES:
            raise ValueError(
                f"audio {list(audio.shape)} must be [B, T], T of {SEEN_SAMPLES} or more"
            )
        from fairseq2.nn import BatchLayout

        padded = functional.pad(audio, (padding, padding))
        layout = BatchLayout.of(padded)
        features, layout, _ = self.frontend.extract_features(padded, layout)
        features, _ = self.frontend.process_features(features, layout)
        return cast(Tensor, self.projection(self.encoder(features, layout)))
