"""Files that say how a voice changes over time.

YAML, a list of moments, each with a mix as one text or by name:

    - {time_s: 0, mix: anna}
    - {time_s: 4.5, mix: "anna:0.3,bert:0.7"}
    - {time_s: 9, mix: {anna: 0.1, bert: 0.9}}

CSV, with a column for each speaker (an empty cell is no share) or with one named `mix`:

    time_s,anna,bert            time_s,mix
    0,1,0                       0,anna
    4.5,0.3,0.7                 4.5,"anna:0.3,bert:0.7"
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from svc.errors import UserError, UserErrors
from svc.inference.speaker_mixing import (
    SpeakerCurve,
    SpeakerMix,
    mix_of,
    parse_mix,
    unknown_speaker,
)

_KEYS = ("time_s", "mix")
_LISTED = 20
"""Faults that a message lists before it counts the rest."""


@dataclass(frozen=True)
class _Moment:
    line: int
    time_s: str
    mix: str | list[tuple[str, str]]
    """As one text, or names and shares."""


def read_speaker_curve(path: Path | str, speakers: Sequence[str]) -> SpeakerCurve:
    """The curve in a file, as the module's docstring shows it.

    Args:
        path: ends in .yaml, .yml or .csv.
        speakers: the model's speaker table.

    Raises:
        UserErrors: something in it is wrong; every fault is named with its line.
        UserError: it cannot be read at all.
    """
    path = Path(path)
    text = _text_of(path)
    faults: list[str] = []
    if path.suffix.lower() == ".csv":
        moments = _csv_moments(text, speakers, faults)
    else:
        moments = _yaml_moments(text, faults)
    if not moments and not faults:
        faults.append("it holds no moment.")
    times_s: list[float] = []
    mixes: list[SpeakerMix] = []
    for moment in moments:
        where = f"line {moment.line}: "
        try:
            times_s.append(_time_s(moment.time_s, times_s))
        except UserError as error:
            faults.append(f"{where}{error}")
        mix, wrong = _mix(moment.mix, speakers)
        faults += [f"{where}{fault}" for fault in wrong]
        mixes += [] if mix is None else [mix]
    if faults:
        listed = faults[:_LISTED]
        if len(faults) > _LISTED:
            listed.append(f"and {len(faults) - _LISTED} more")
        raise UserErrors(f"speaker_curve={path} cannot be used:", listed)
    return SpeakerCurve(times_s, mixes, path.stem)


def _text_of(path: Path) -> str:
    if path.suffix.lower() not in (".yaml", ".yml", ".csv"):
        raise UserError(f"speaker_curve={path} must be a file that ends in .yaml, .yml or .csv.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"speaker_curve={path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"speaker_curve={path} is no text in UTF-8; save it as such.") from error


def _time_s(text: str, before: Sequence[float]) -> float:
    try:
        time_s = float(text)
    except ValueError:
        time_s = math.nan
    if not 0 <= time_s < math.inf:
        raise UserError(f"time_s is {text or 'missing'}; it must be a number of seconds from 0.")
    if before and time_s < before[-1]:
        raise UserError(f"time_s={time_s:g} comes after {before[-1]:g}; sort the moments by time.")
    return time_s


def _mix(
    mix: str | list[tuple[str, str]], speakers: Sequence[str]
) -> tuple[SpeakerMix | None, list[str]]:
    """The mix, None where it is wrong, and what is wrong with it."""
    if not isinstance(mix, str):
        return mix_of(mix, speakers)
    if not mix:
        return None, ["mix is missing; give a speaker, or several with shares."]
    try:
        return parse_mix(mix, speakers), []
    except UserErrors as error:
        return None, error.faults
    except UserError as error:
        return None, [str(error)]


def _yaml_moments(text: str, faults: list[str]) -> list[_Moment]:
    """Out of the nodes and not the values: a speaker may be called `no` or `007`, a name that is
    given twice is noticed, and nodes know their lines."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        faults.append(f"{where}this is no YAML: {getattr(error, 'problem', None) or error}.")
        return []
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        faults.append("it must be a list of moments, such as - {time_s: 0, mix: NAME}.")
        return []
    moments = (_yaml_moment(node, faults) for node in root.value)
    return [moment for moment in moments if moment is not None]


def _yaml_moment(node: yaml.Node, faults: list[str]) -> _Moment | None:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        faults.append(f"line {line}: a moment has a time and a mix: {{time_s: 0, mix: NAME}}.")
        return None
    given: dict[str, yaml.Node] = {}
    wrong = []
    for key, value in ((_shown(key), value) for key, value in node.value):
        if key in given:
            wrong.append(f"line {line}: {key} is given twice.")
        elif key not in _KEYS:
            wrong.append(
                f"line {line}: {key} is not known; a moment has time_s and mix. A mix of several "
                f'wants quotes: mix: "anna:0.7,bert:0.3".'
            )
        else:
            given[key] = value
    wrong += [f"line {line}: {key} is missing." for key in _KEYS if not wrong and key not in given]
    if not wrong and not isinstance(given["time_s"], yaml.ScalarNode):
        wrong.append(f"line {line}: time_s must be a number of seconds.")
    if not wrong and isinstance(given["mix"], yaml.SequenceNode):
        wrong.append(f"line {line}: mix must be a text, or shares by name: {{anna: 0.7, bert: 1}}.")
    if wrong:
        faults += wrong
        return None
    mix = given["mix"].value
    if isinstance(given["mix"], yaml.MappingNode):
        mix = [(_shown(name), _shown(share)) for name, share in mix]
    return _Moment(line, given["time_s"].value, mix)


def _shown(node: yaml.Node) -> str:
    """A scalar as it was typed."""
    return node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"


def _csv_moments(text: str, speakers: Sequence[str], faults: list[str]) -> list[_Moment]:
    head = text.partition("\n")[0]
    separator = ";" if ";" in head and "," not in head else ","
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    header: list[str] = []
    moments = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not header:
                header = cells
                faults += [f"line {reader.line_num}: {f}" for f in _wrong_header(header, speakers)]
                if faults:
                    break
            elif len(cells) != len(header):
                faults.append(
                    f"line {reader.line_num}: {len(cells)} cells, but {len(header)} columns; a mix "
                    f'of several wants quotes: "anna:0.7,bert:0.3".'
                )
            else:
                moments.append(_csv_moment(reader.line_num, header, cells))
    except csv.Error as error:
        faults.append(f"line {reader.line_num}: this is no CSV: {error}.")
    return moments


def _csv_moment(line: int, header: Sequence[str], cells: Sequence[str]) -> _Moment:
    by_name = dict(zip(header, cells, strict=True))
    time_s = by_name.pop("time_s")
    if list(by_name) == ["mix"]:
        return _Moment(line, time_s, by_name["mix"])
    return _Moment(line, time_s, [(name, share or "0") for name, share in by_name.items()])


def _wrong_header(header: Sequence[str], speakers: Sequence[str]) -> list[str]:
    names = [name for name in header if name != "time_s"]
    twice = sorted({name for name in header if header.count(name) > 1})
    faults = [f"the column {name} is there twice." for name in twice]
    if "time_s" not in header or not names:
        faults.append("the columns must be time_s and mix, or time_s and one for each speaker.")
    elif "" in names:
        faults.append("a column has no name.")
    elif names != ["mix"]:
        faults += [unknown_speaker(name, speakers) for name in names if name not in speakers]
    return faults
