"""The benchmarks run, count what they should, and say truly whether a target is met."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
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


def test_each_hook_is_charged_with_its_own_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hook_clock = benchmark("hook_clock", monkeypatch)
    now_s = 0.0
    monkeypatch.setattr(hook_clock, "time", SimpleNamespace(perf_counter=lambda: now_s))
    clock = hook_clock.HookClock()
    logger = SimpleNamespace(log_metrics=lambda *_: None, save=lambda: None)

    def save() -> None:
        nonlocal now_s
        now_s += 5.0

    def log_metrics(*_: Any) -> None:
        nonlocal now_s
        now_s += 2.0
        logger.save()

    logger.save, logger.log_metrics = save, log_metrics
    clock.listen_to_loggers(SimpleNamespace(loggers=[logger]))
    with clock.profile("run_training_batch"):
        now_s += 100.0
        with clock.profile("[Callback]Throughput.on_train_batch_end"):
            now_s += 1.0
            logger.log_metrics({}, 1)
        with clock.profile("[Callback]Throughput.on_train_batch_start"):
            now_s += 0.5
    assert clock.seconds["run_training_batch"] == 100.0
    assert clock.by_part() == {"Throughput": 1.5, "SimpleNamespace": 7.0}


def test_training_is_compared_with_its_targets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, figures = benchmark("train", monkeypatch), benchmark("figures", monkeypatch)
    found = {
        "seconds": [4.0, 2.0, 1.0],
        "gflop": 100.0,
        "audio_s": 6.0,
        "batch_size": 4,
        "crop_frames": 32,
        "peak_gib": 3.0,
        "wait_fraction": 0.021,
        "mel_s": 0.1,
        "parameters": 7,
    }
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(train, "in_a_process", lambda *words: asked.append(words) or found)
    case = train.Case("tiny", ("experiment=demo",), full_size=False)
    options = figures.Options(repeats=2, steps_per_repeat=5)
    run = train._figures_of_run(case, "cpu", {"": tmp_path}, options)
    assert asked == [("training_run", str(tmp_path), "10", "", "experiment=demo", "trainer=cpu")]
    machine = rates(monkeypatch, 200.0)
    done = figures.completed({"settings": "", "figures": run}, machine, machine)["figures"]
    assert [(entry["value"], entry["unit"]) for entry in done] == [
        (0.5, "steps/s"),
        (3.0, "audio s/s"),
        (2.1, "%"),
        (3.0, "GiB"),
    ]
    assert done[0]["fraction_of_conv1d_rate"] == 0.25
    table = benchmark("table", monkeypatch)
    assert [table.is_met(entry) for entry in done] == [None, None, False, None]
    overhead = {"csv": {"slower": [0.5, 0.01, 0.02], "share": 0.031, "parts_ms": {}, "step_ms": 9}}
    hooks, slower = train._figures_of_overhead(overhead)
    assert (hooks["value"], table.is_met(hooks)) == (3.1, False)
    assert (slower["value"], table.is_met(slower)) == (2.0, True)


@pytest.mark.slow
def test_training_runs_and_their_callbacks_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    train, figures = benchmark("train", monkeypatch), benchmark("figures", monkeypatch)
    case = train.Case("demo", ("experiment=demo", "data.batch_size=2"), False, ("cpu",))
    monkeypatch.setattr(train, "CASES", [case])
    options = figures.Options(repeats=1, steps_per_repeat=10, audio_minutes=0.4)
    entries = {entry["name"]: entry for entry in train.measure(options)["figures"]}
    run = entries["demo, trainer=cpu"]
    assert run["steps"] == 10
    assert run["gflop_computed"] > 1
    assert run["gflop_per_s_used"] == pytest.approx(run["gflop_computed"] * run["value"], rel=0.01)
    assert 0 <= entries["demo, trainer=cpu: waiting for data"]["value"] < 100
    for logger, writer in (
        ("csv", "RunCsvLogger"),
        ("tensorboard", "RunTensorBoardLogger"),
        ("wandb", "RunWandbLogger"),
    ):
        hooks = entries[f"demo, callbacks=default and logger={logger}: in their hooks"]
        assert {"Throughput", "TrainingProgressBar", writer} <= hooks["ms_per_step"].keys()
        assert "RunClock" not in hooks["ms_per_step"]
        assert sum(hooks["ms_per_step"].values()) == pytest.approx(
            hooks["value"] / 100 * hooks["step_ms"], rel=0.1, abs=0.01
        )


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


def test_the_predecessors_generator_can_be_converted_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversion = benchmark("conversion", monkeypatch)
    generator = benchmark("networks", monkeypatch).PredecessorSinger().eval()
    converter = conversion._converter(generator, conversion.CHANNELS, "fp32")
    audio = conversion._input(0.1)
    assert converter.convert(audio, conversion.SPEC.sample_rate_hz).shape == audio.shape
