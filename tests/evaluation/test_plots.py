"""Pictures: that they hold what they should, as far as numbers can tell."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from svc.audio.mel import MelSpectrogram
from svc.audio.spec import AudioSpec
from svc.errors import UserError
from svc.evaluation.plots import (
    Contour,
    MelRow,
    mel_bin,
    plot_loss_curves,
    plot_mel_comparison,
    read_curves,
)


@pytest.mark.parametrize("spec", [AudioSpec(), AudioSpec(mel_min_hz=40, mel_max_hz=16_000)])
@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 5000.0])
def test_mel_bin_is_where_a_sine_shows(spec: AudioSpec, frequency_hz: float) -> None:
    t = torch.arange(8192) / spec.sample_rate_hz
    log_mel = MelSpectrogram(spec)(torch.sin(2 * torch.pi * frequency_hz * t))
    loudest = int(log_mel[:, 8].argmax())
    assert abs(float(mel_bin(np.array([frequency_hz]), spec)[0]) - loudest) <= 0.75


def test_comparison_is_a_picture_with_content(tmp_path: Path) -> None:
    log_mel = torch.linspace(-11, 2, 128 * 60).reshape(128, 60)
    contour = Contour(torch.linspace(200, 300, 60), torch.arange(60) % 20 > 3)
    path = tmp_path / "new" / "mels.png"
    plot_mel_comparison(
        path, [MelRow("a", log_mel, contour), MelRow("b", log_mel, contour)], AudioSpec()
    )
    picture = matplotlib.image.imread(path)
    assert picture.shape[0] > 400
    assert picture.shape[1] > 800
    assert float(picture[..., :3].std()) > 0.1


METRICS_CSV = """epoch,step,train_loss_gen,valid_loss
0,10,5.0,
0,20,nan,
0,20,,2.5
0,30,4.0,
0,40,3"""


class TestLossCurves:
    def test_reads_what_lightning_writes(self, tmp_path: Path) -> None:
        (tmp_path / "metrics.csv").write_text(METRICS_CSV)
        assert read_curves(tmp_path / "metrics.csv") == {
            "train_loss_gen": ([10, 30, 40], [5.0, 4.0, 3.0]),
            "valid_loss": ([20], [2.5]),
        }

    def test_draws_what_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "metrics.csv").write_text(METRICS_CSV)
        plot_loss_curves(tmp_path / "metrics.csv", tmp_path / "losses.png")
        # Two panels: nothing was logged about the discriminator.
        height, width = matplotlib.image.imread(tmp_path / "losses.png").shape[:2]
        assert 2 < width / height < 3

    def test_refuses_files_without_curves(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="There is no"):
            plot_loss_curves(tmp_path / "none.csv", tmp_path / "losses.png")
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        with pytest.raises(UserError, match="no column 'step'"):
            plot_loss_curves(tmp_path / "other.csv", tmp_path / "losses.png")
        (tmp_path / "metrics.csv").write_text("step,lr\n1,2\n")
        with pytest.raises(UserError, match="none of the metrics"):
            plot_loss_curves(tmp_path / "metrics.csv", tmp_path / "losses.png")
