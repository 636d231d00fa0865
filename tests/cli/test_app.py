"""What every command does around its own work."""

from pathlib import Path

import pytest

from svc.cli.quoting import in_full, options_first, quote_paths


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("input=a.wav", "input=a.wav"),
        ("input=my song (live).wav", "input='my song (live).wav'"),
        ("input=it's.wav", r"input='it\'s.wav'"),
        ("input='quoted already.wav'", "input='quoted already.wav'"),
        ("dataset.path=/stimme/größe", "dataset.path='/stimme/größe'"),
        ("run_name=a b", "run_name='a b'"),
        ("run_name=Übung (2)=neu", "run_name='Übung (2)=neu'"),
        ("run_name=voices-2", "run_name=voices-2"),
        ("paths.output_dir=My runs (größe)", "paths.output_dir='My runs (größe)'"),
        ("licence=a b", "licence=a b"),
        ("speaker=a", "speaker=a"),
        ("speaker=größe b", "speaker='größe b'"),
        ("speaker=a:0.7,b:0.3", "speaker='a:0.7,b:0.3'"),
        ("speaker='a:0.7,b:0.3'", "speaker='a:0.7,b:0.3'"),
        ("speaker=a,b", "speaker='a,b'"),
        ("speaker_curve=mine (1).csv", "speaker_curve='mine (1).csv'"),
        ("checkpoint=a.ckpt,b.ckpt", "checkpoint=a.ckpt,b.ckpt"),
        (r"input=C:\songs\a (b).wav", r"input='C:\songs\a (b).wav'"),
        ("adapters=[a.safetensors:1.0]", "adapters=['a.safetensors:1.0']"),
        ("output=one, two (new).wav", "output='one, two (new).wav'"),
        ("--help", "--help"),
    ],
)
def test_paths_are_quoted_for_hydra(typed: str, passed: str) -> None:
    assert quote_paths([typed]) == [passed]


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("resume=auto", "++resume.checkpoint=auto"),
        ("+resume=runs/1", "++resume.checkpoint=runs/1"),
        ("resume={checkpoint: auto}", "resume={checkpoint: auto}"),
        ("resume.allow_changes=true", "resume.allow_changes=true"),
        ("batch_size=auto", "data.batch_size=auto"),
        ("content.batch_size=4", "content.batch_size=4"),
    ],
)
def test_what_is_typed_in_short(typed: str, passed: str) -> None:
    assert in_full(["-m", typed, "seed=1"]) == ["-m", passed, "seed=1"]


def test_a_comma_in_the_name_of_an_existing_file_is_no_sweep(tmp_path: Path) -> None:
    song = tmp_path / "one, two.wav"
    song.touch()
    assert quote_paths([f"input={song}"]) == [f"input='{song}'"]


def test_a_comma_means_a_sweep_only_where_one_is_asked_for() -> None:
    values = "input=größe.wav,other.wav"
    assert quote_paths([values]) == ["input='größe.wav,other.wav'"]
    in_sweep = "input='größe.wav',other.wav"
    assert quote_paths(["-m", values]) == ["-m", in_sweep]
    assert quote_paths(["hparams_search=lr_grid", values])[1] == in_sweep
    assert quote_paths(["-m", "speaker=a,b"]) == ["-m", "speaker=a,b"]
    assert quote_paths(["-m", "speaker=a:7,b:3"]) == ["-m", "speaker='a:7,b:3'"]


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("dataset.path=a b (1),c", "dataset.path='a b (1)',c"),
        ("dataset.path=a,b", "dataset.path=a,b"),
        ("dataset.path='a b',c", "dataset.path='a b',c"),
        ("dataset.path=choice(a,b)", "dataset.path=choice(a,b)"),
        ("dataset.path=größe (1)", "dataset.path='größe (1)'"),
        ("pretrained=null, it's [new].ckpt", r"pretrained=null,'it\'s [new].ckpt'"),
    ],
)
def test_every_path_of_a_sweep_is_quoted_by_itself(typed: str, passed: str) -> None:
    assert quote_paths([typed, "--multirun"])[0] == passed
    assert quote_paths(["hparams_search=optuna", typed])[1] == passed


def test_options_may_stand_anywhere() -> None:
    typed = ["arch=diffsvc", "-m", "seed=1,2", "--config-dir", "mine", "~scheduler", "--cfg"]
    passed = ["-m", "--config-dir", "mine", "--cfg", "arch=diffsvc", "seed=1,2", "~scheduler"]
    assert options_first(typed) == passed
