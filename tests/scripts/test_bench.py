"""The benchmarks run, count what they should, and say truly whether a target is met."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import torch

from store_material import write_voice
from svc.data.sources import FolderSource
from svc.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of scripts/benchmarks, which is no part of the package."""
    import importlib

    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(f"benchmarks.{name}")


def rates(monkeypatch: pytest.MonkeyPatch, conv1d_fp32: float) -> Any:
    machine = benchmark("machine", monkeypatch)
    return machine.MachineRates(
        conv1d_fp32=conv1d_fp32, conv1d_bf16=1000.0, matmul_fp32=50.0, matmul_bf16=60.0
    )


def test_durations_are_normalised_by_the_better_of_both_rates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = benchmark("figures", monkeypatch)
    step = figures.timed("step", 2.0, 100.0, "fp32", at_most=300, gflop_computed=80.0)
    section = {"settings": "", "figures": [step]}
    done = figures.completed(section, rates(monkeypatch, 100.0), rates(monkeypatch, 200.0))
    (entry,) = done["figures"]
    assert entry["value"] == entry["normalised_cost"] == 400.0
    assert entry["seconds"] == 2.0
    assert entry["fraction_of_conv1d_rate"] == 0.25
    assert entry["computed_fraction_of_conv1d_rate"] == 0.2
    assert done["gflop_per_s"]["before"]["conv1d_fp32"] == 100.0


@pytest.mark.parametrize(
    ("targets", "met"),
    [
        ({"at_most": 5.0}, True),
        ({"at_most": 4.9}, False),
        ({"at_least": 5.0}, True),
        ({"at_least": 5.1}, False),
        ({}, None),
    ],
)
def test_a_target_is_met_or_not(
    monkeypatch: pytest.MonkeyPatch, targets: dict[str, float], met: bool | None
) -> None:
    figures, table = benchmark("figures", monkeypatch), benchmark("table", monkeypatch)
    assert table.is_met(figures.figure("crops", 5.0, "crops/s", **targets)) is met


def test_extractors_are_compared_with_the_rate_of_their_precision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features, figures = benchmark("features", monkeypatch), benchmark("figures", monkeypatch)

    def absent() -> Any:
        raise UserError("no weights")

    cases = [
        features.Case("sum", lambda: torch.sum, at_most=1.0, gflop_per_audio_s=10.0),
        features.Case("absent", absent),
    ]
    monkeypatch.setattr(features, "_content", lambda *_: cases)
    monkeypatch.setattr(features, "_pitch", lambda *_: [])
    options = figures.Options(repeats=2, feature_durations_s=(0.5, 20.0))
    section = features.measure(options)
    done = figures.completed(section, rates(monkeypatch, 100.0), rates(monkeypatch, 200.0))
    short, long = done["figures"][:2]
    assert [short["name"], long["name"]] == ["sum, 0.5 s", "sum, 20 s"]
    assert "at_most" not in short, "targets are those of recordings, not of a second"
    assert long["at_most"] == 1.0
    assert long["value"] == pytest.approx(long["seconds"] / 20, abs=1e-3)
    expected = 10.0 * 20 / long["seconds"] / 200
    assert long["fraction_of_conv1d_rate"] == pytest.approx(expected, rel=0.01)
    assert not any("absent" in entry["name"] for entry in done["figures"])
    assert "absent is left out: no weights" in capsys.readouterr().err


def test_recordings_are_repeated_for_as_long_as_wanted_and_no_two_are_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    preparation = benchmark("preparation", monkeypatch)
    for seed in range(2):
        write_voice(tmp_path / "voices" / "anna" / f"{seed}.wav", 4.0, seed)
    source = FolderSource(tmp_path / "voices")
    folder = preparation._repeated(source, 21 / 3600, tmp_path / "copies")
    files = sorted(folder.rglob("*.wav"))
    seconds = [soundfile.info(file).duration for file in files]
    assert sorted(seconds) == pytest.approx([1.0] + [4.0] * 5)
    assert len({file.read_bytes() for file in files}) == 6
    figure = preparation._on_all_cores(FolderSource(folder), tmp_path / "store", 1)
    assert figure["audio_s"] == 21.0
    assert figure["files"] == 6
    assert figure["value"] == pytest.approx(figure["best_seconds"] * 3600 / 21, rel=0.02)


def test_the_gradients_of_a_grouped_convolution_count_twice_its_forward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    steps = benchmark("steps", monkeypatch)
    mapping = {torch.ops.aten.convolution_backward: steps.convolution_backward_flop}
    conv = torch.nn.Conv1d(8, 16, 5, padding=2, groups=4)
    x = torch.randn(2, 8, 30, requires_grad=True)
    forward = 2 * 2 * 30 * 16 * (8 // 4) * 5
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        y = conv(x)
        assert counter.get_total_flops() == forward
        y.sum().backward()
    assert counter.get_total_flops() == 3 * forward


def test_the_signal_to_noise_ratio_is_that_of_a_known_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversion = benchmark("conversion", monkeypatch)
    signal = torch.sin(torch.arange(1000.0))
    assert conversion.snr_db(signal, 1.1 * signal) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.slow
def test_the_script_measures_start_up_and_writes_a_table(tmp_path: Path) -> None:
    options = ["--repeats", "1", "--json", "bench.json", "--table", "bench.md"]
    subprocess.run(
        [sys.executable, SCRIPTS / "bench.py", "startup", *options],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    figures = report["sections"]["startup"]["figures"]
    assert [entry["name"] for entry in figures] == [
        "svc-train --help",
        "svc-train --cfg job",
        "svc-infer --help",
    ]
    table = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert all(f"| {entry['name']} |" in table for entry in figures)
