"""RMVPE's network: a deep U-Net over the mel, a bidirectional GRU, 360 pitch bins."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

MEL_BINS = 128
PITCH_BINS = 360
_GRU_CHANNELS = 256
_MEL_CHANNELS = 3
"""Channels of the last picture, which are laid side by side for the GRU."""


@dataclass(frozen=True)
class RmvpeSize:
    """Dimensions of the network; the defaults are those of the published `rmvpe.pt`."""

    channels: int = 16
    """Of the first level; every level down doubles them."""
    levels: int = 5
    """Of the U-Net; every one halves frames and mel bins."""
    blocks: int = 4
    """Residual blocks per level."""
    bottom_layers: int = 4
    """Groups of blocks at the bottom."""
    gru_layers: int = 1

    @classmethod
    def of(cls, names: Iterable[str], channels: int) -> "RmvpeSize":
        """The size of the network whose state has these names."""
        parts = [name.split(".") for name in names]

        def count(*prefix: str) -> int:
            depth = len(prefix)
            return len({p[depth] for p in parts if tuple(p[:depth]) == prefix and len(p) > depth})

        return cls(
            channels=channels,
            levels=count("unet", "encoder", "layers"),
            blocks=count("unet", "encoder", "layers", "0", "conv"),
            bottom_layers=count("unet", "intermediate", "layers"),
            gru_layers=sum(p[:3] == ["fc", "0", "gru"] and "weight_ih" in p[3] for p in parts) // 2,
        )

    @property
    def frame_multiple(self) -> int:
        """The number of frames must be a multiple of this."""
        return int(2**self.levels)


class Rmvpe(nn.Module):
    """Salience of 360 pitch bins, 20 cents apart, per frame of a log mel.

    Wei et al., "RMVPE: A Robust Model for Vocal Pitch Estimation in Polyphonic Music" (Interspeech
    2023). Names and shapes of the state are those of the published `rmvpe.pt`.

    Args:
        size: dimensions.
    """

    def __init__(self, size: RmvpeSize | None = None) -> None:
        super().__init__()
        size = size or RmvpeSize()
        self.size = size
        self.unet = _UNet(size)
        self.cnn = nn.Conv2d(size.channels, _MEL_CHANNELS, 3, padding=1)
        self.fc = nn.Sequential(
            _Gru(_MEL_CHANNELS * MEL_BINS, size.gru_layers),
            nn.Linear(2 * _GRU_CHANNELS, PITCH_BINS),
        )

    def forward(self, mel: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """mel [B, 128, N], N a multiple of `size.frame_multiple` -> salience [B, N, 360] in 0…1.

        The picture is computed in the precision of the U-Net's weights, what follows in fp32.

        Args:
            mel: the input.
            lengths: frames of each row, multiples of `size.frame_multiple`, the longest of them N;
                each then gives what it would give without the others, in its own frames. None
                where all are N.
        """
        picture = mel.transpose(1, 2).unsqueeze(1).to(self.cnn.weight.dtype)
        inside = _inside(lengths, picture, self.size.levels)
        picture = picture.contiguous(memory_format=torch.channels_last)
        planes = self.cnn(self.unet(picture, inside))
        rows = self.fc[0](planes.float().transpose(1, 2).flatten(2), lengths)
        return cast(Tensor, self.fc[1](rows)).sigmoid()

    @torch.no_grad()
    def for_inference(self, dtype: torch.dtype = torch.float32) -> "Rmvpe":
        """This network, changed in place: batch norms folded into the convolutions before them,
        channels last, the picture's part in `dtype`. Its state is no longer the published one."""
        self.eval()
        for module in self.modules():
            if isinstance(module, nn.Sequential):
                _fold_batch_norms(module)
        for part in (self.unet, self.cnn):
            part.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.requires_grad_(False)


def state_faults(state: Mapping[str, Tensor], network: Rmvpe) -> list[str]:
    """What keeps `state` from being the network's: missing, unknown and wrongly shaped tensors."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    # Counts of training steps; not every file keeps them and nothing needs them.
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    return [
        *(f"{name} is missing" for name in needed if name not in state),
        *(f"{name} is unknown" for name in state if name not in expected),
        *(
            f"{name} has shape {tuple(state[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != shape
        ),
    ]


class _Gru(nn.Module):
    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, _GRU_CHANNELS, layers, batch_first=True, bidirectional=True)

    def forward(self, rows: Tensor, lengths: Sequence[int] | None) -> Tensor:
        if lengths is None:
            return cast(Tensor, self.gru(rows)[0])
        packed = nn.utils.rnn.pack_padded_sequence(
            rows, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]


class _UNet(nn.Module):
    def __init__(self, size: RmvpeSize) -> None:
        super().__init__()
        self.encoder = _Encoder(size)
        bottom = size.channels * 2**size.levels
        self.intermediate = nn.Module()
        self.intermediate.layers = nn.ModuleList(
            _Blocks(bottom // 2 if layer == 0 else bottom, bottom, size.blocks)
            for layer in range(size.bottom_layers)
        )
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(
            _Up(bottom // 2**level, size.blocks) for level in range(size.levels)
        )

    def forward(self, picture: Tensor, inside: Sequence[Tensor | None]) -> Tensor:
        x, skips = self.encoder(picture, inside)
        for layer in cast(nn.ModuleList, self.intermediate.layers):
            x = layer(x, inside[-1])
        for layer, skip, mask in zip(
            cast(nn.ModuleList, self.decoder.layers),
            reversed(skips),
            reversed(inside[:-1]),
            strict=True,
        ):
            x = layer(x, skip, mask)
        return cast(Tensor, x)


class _Encoder(nn.Module):
    def __init__(self, size: RmvpeSize) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(1)
        widths = [1, *(size.channels * 2**level for level in range(size.levels))]
        self.layers = nn.ModuleList(
            _Blocks(wide_in, wide_out, size.blocks)
            for wide_in, wide_out in itertools.pairwise(widths)
        )
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor, inside: Sequence[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        skips = []
        x = _masked(self.bn(x), inside[0])
        for layer, mask in zip(self.layers, inside[:-1], strict=True):
            skips.append(layer(x, mask))
            x = self.pool(skips[-1])
        return x, skips


class _Blocks(nn.Module):
    """Residual blocks one after the other, the first of which changes the width."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int) -> None:
        super().__init__()
        self.conv = _residual_blocks(channels_in, channels_out, blocks)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        for block in self.conv:
            x = block(x, inside)
        return x


class _Up(nn.Module):
    """Twice the size and half the channels, then the encoder's picture beside it."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.ConvTranspose2d(
                channels, channels // 2, 3, stride=2, padding=1, output_padding=1, bias=False
            ),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(inplace=True),
        )
        self.conv2 = _residual_blocks(channels, channels // 2, blocks)

    def forward(self, x: Tensor, skip: Tensor, inside: Tensor | None) -> Tensor:
        x = torch.cat([_masked(self.conv1(x), inside), skip], dim=1)
        for block in self.conv2:
            x = block(x, inside)
        return x


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            layers += [
                nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
            ]
        self.conv = nn.Sequential(*layers)
        if channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        residual = self.shortcut(x) if hasattr(self, "shortcut") else x
        for layer in self.conv:
            x = layer(x)
            if isinstance(layer, nn.ReLU):  # the next convolution must find zeros outside
                x = _masked(x, inside)
        return _masked(x.add_(residual), inside)


def _residual_blocks(channels_in: int, channels_out: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(
        _ResidualBlock(channels_in if block == 0 else channels_out, channels_out)
        for block in range(blocks)
    )


def _inside(lengths: Sequence[int] | None, picture: Tensor, levels: int) -> list[Tensor | None]:
    """Per level of the U-Net and for its bottom, [B, 1, N', 1]: 1 in the frames of each row, 0 in
    those that pad it, so that convolutions find there what they find beyond a picture's edge."""
    if lengths is None:
        return [None] * (levels + 1)
    frames = torch.arange(picture.shape[2], device=picture.device)
    own = frames < torch.tensor(lengths, device=picture.device)[:, None]
    finest = own[:, None, :, None].to(picture.dtype)
    return [finest[:, :, :: 2**level] for level in range(levels + 1)]


def _masked(x: Tensor, inside: Tensor | None) -> Tensor:
    return x if inside is None else x.mul_(inside)


def _fold_batch_norms(layers: nn.Sequential) -> None:
    """Fold every batch norm that follows a convolution into it."""
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
            transposed = isinstance(conv, nn.ConvTranspose2d)
            layers[i] = fuse_conv_bn_eval(cast(nn.Conv2d, conv), norm, transpose=transposed)
            layers[i + 1] = nn.Identity()
