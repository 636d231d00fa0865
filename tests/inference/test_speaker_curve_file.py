"""Curves out of YAML and CSV, and every fault with its line."""

from pathlib import Path

import pytest

from svc.errors import UserError
from svc.inference.speaker_curve_file import read_speaker_curve

SPEAKERS = ["anna", "bert", "no", "", "007"]
GOOD = {
    "curve.yaml": (
        "# a comment\n- {time_s: 0, mix: anna}\n- {time_s: 4.5, mix: 'anna:0.3,bert:0.7'}\n"
        "- time_s: 9\n  mix: {anna: 1, bert: 9}\n"
    ),
    "mixes.csv": 'time_s,mix\n0,anna\n4.5,"anna:0.3,bert:0.7"\n\n9,"anna:1, bert:9"\n',
    "columns.csv": "\ufefftime_s, anna, bert\n0,1,\n4.5,0.3,0.7\n9,1,9\n",
    "of_a_spreadsheet.CSV": "time_s;anna;bert\r\n0;1;0\r\n4.5;0.3;0.7\r\n9;0.1;0.9\r\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_all_ways_to_write_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(GOOD[name].encode())
    curve = read_speaker_curve(path, SPEAKERS)
    assert list(curve.times_s) == [0, 4.5, 9]
    wanted = [{"anna": 1.0}, {"anna": 0.3, "bert": 0.7}, {"anna": 0.1, "bert": 0.9}]
    assert [dict(mix.shares) for mix in curve.mixes] == [pytest.approx(mix) for mix in wanted]
    assert curve.label == path.stem


def test_names_that_yaml_takes_for_something_else(tmp_path: Path) -> None:
    path = tmp_path / "curve.yml"
    path.write_text("- {time_s: 0, mix: no}\n- {time_s: 1, mix: {007: 1, no: 1}}\n")
    mixes = read_speaker_curve(path, SPEAKERS).mixes
    assert [dict(mix.shares) for mix in mixes] == [{"no": 1.0}, {"007": 0.5, "no": 0.5}]


FAULTS: dict[str, tuple[str, str, list[str]]] = {
    "empty": (".yaml", "", ["it holds no moment"]),
    "no list": (".yaml", "time_s: 0\nmix: anna\n", ["must be a list of moments"]),
    "no yaml": (".yaml", "- {time_s: 0, mix: [anna\n- x", ["line 2: this is no YAML"]),
    "no moment": (
        ".yaml",
        "- anna\n- [1, anna]\n",
        ["line 1: a moment", "line 2: a moment"],
    ),
    "keys": (
        ".yaml",
        "- {time: 0, mix: anna}\n- {time_s: 1}\n- {time_s: 1, mix: anna:1,bert:1}\n"
        "- {time_s: 1, time_s: 2, mix: anna}\n- {[1]: 2}\n",
        [
            "line 1: time is not known; a moment has time_s and mix",
            "line 2: mix is missing",
            "line 3: bert:1 is not known; a moment has time_s and mix. A mix of several wants quot",
            "line 4: time_s is given twice",
            "line 5: a list or mapping is not known",
        ],
    ),
    "times": (
        ".yaml",
        "- {time_s: -1, mix: anna}\n- {time_s: soon, mix: anna}\n- {time_s: .nan, mix: anna}\n"
        "- {time_s: 3, mix: anna}\n- {time_s: 2, mix: anna}\n- {time_s: , mix: anna}\n"
        "- {time_s: [1], mix: anna}\n- {time_s: 1e999, mix: anna}\n",
        [
            "line 1: time_s is -1; it must be a number of seconds from 0",
            "line 2: time_s is soon",
            "line 3: time_s is .nan",
            "line 5: time_s=2 comes after 3; sort",
            "line 6: time_s is missing",
            "line 7: time_s must be a number",
            "line 8: time_s is 1e999",
        ],
    ),
    "mixes": (
        ".yaml",
        "- {time_s: 0, mix: anne}\n- {time_s: 1, mix: 'anna:-1,bert:x'}\n- {time_s: 2, mix: }\n"
        "- {time_s: 3, mix: {anna: 0}}\n- {time_s: 4, mix: {anna: 1, anna: 2}}\n"
        "- {time_s: 5, mix: [anna]}\n- {time_s: 6, mix: {anna: [1]}}\n",
        [
            "line 1: speaker=anne is not in this model; it knows: anna, bert, no, 007. Did you",
            "line 2: the share of anna is -1",
            "line 2: the share of bert is x",
            "line 3: mix is missing",
            "line 4: the shares add up to 0",
            "line 5: anna is named twice",
            "line 6: mix must be a text, or shares by name",
            "line 7: the share of anna is a list or mapping",
        ],
    ),
    "empty csv": (".csv", "\n", ["it holds no moment"]),
    "header alone": (".csv", "time_s,mix\n", ["it holds no moment"]),
    "header": (".csv", "time,mix\n0,anna\n", ["line 1: the columns must be time_s and mix"]),
    "columns": (
        ".csv",
        "time_s,anna,anna,brt\n",
        ["line 1: the column anna is there twice", "brt is not in this model", "you mean bert?"],
    ),
    "nameless column": (".csv", "time_s,anna,\n0,1,1\n", ["line 1: a column has no name"]),
    "cells": (
        ".csv",
        "time_s,mix\n0,anna:1,bert:1\n1,anna\n2\n",
        ["line 2: 3 cells, but 2 columns; a mix of several wants quotes", "line 4: 1 cells"],
    ),
    "rows": (
        ".csv",
        "time_s,anna,bert\n1,0,\n0.5,nan,1\nx,1,1\n",
        [
            "line 2: the shares add up to 0",
            "line 3: time_s=0.5 comes after 1",
            "line 3: the share of anna is nan",
            "line 4: time_s is x",
        ],
    ),
    "no csv": (".csv", 'time_s,mix\n0,"anna\n', ["this is no CSV"]),
    "many": (".csv", "time_s,mix\n" + "0,zoe\n" * 30, ["line 21: speaker=zoe", "and 10 more"]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_every_fault_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    suffix, text, parts = FAULTS[case]
    path = tmp_path / f"curve{suffix}"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_speaker_curve(path, SPEAKERS)
    assert f"speaker_curve={path} cannot be used" in str(caught.value)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a file that ends in \.yaml, \.yml or \.csv"):
        read_speaker_curve(tmp_path / "curve.txt", SPEAKERS)
    with pytest.raises(UserError, match=r"none\.csv cannot be read: No such file"):
        read_speaker_curve(tmp_path / "none.csv", SPEAKERS)
    (tmp_path / "latin.csv").write_bytes("time_s,größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="is no text in UTF-8"):
        read_speaker_curve(tmp_path / "latin.csv", SPEAKERS)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"folder\.yaml cannot be read"):
        read_speaker_curve(tmp_path / "folder.yaml", SPEAKERS)
