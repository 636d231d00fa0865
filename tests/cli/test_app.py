"""What every command does around its own work."""

from pathlib import Path

import pytest

from svc.cli.quoting import in_full, quote_paths


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("input=a.wav", "input=a.wav"),
        ("input=my song (live).wav", "input='my song (live).wav'"),
        ("input=it's.wav", r"input='it\'s.wav'"),
        ("input='quoted already.wav'", "input='quoted already.wav'"),
        ("dataset.path=/stimme/größe", "dataset.path='/stimme/größe'"),
        ("run_name=a b", "run_name=a b"),
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
    assert quote_paths(["-m", values]) == ["-m", values]
    assert quote_paths(["-m", "speaker=a,b"]) == ["-m", "speaker=a,b"]
    assert quote_paths(["-m", "speaker=a:7,b:3"]) == ["-m", "speaker='a:7,b:3'"]
