"""Published files of weights are read, and nothing in them is executed."""

import argparse
import contextlib
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from svc.checkpoints.safe_reading import read_state_dict
from svc.errors import UserError

WEIGHTS = {
    "conv.weight": torch.arange(24.0).view(2, 3, 4),
    "conv.bias": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "transposed": torch.arange(6).view(2, 3).T,
    "part": torch.arange(10.0)[4:7],
    "parameter": torch.nn.Parameter(torch.ones(3)),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(7.0, dtype=torch.bfloat16),
}
FORMATS = {"zip": True, "legacy": False}


def saved(content: Any, path: Path, form: str) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[form])
    return path


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.fixture(params=list(FORMATS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "generator", "hubert"])
def test_weights_are_read_to_the_bit(form: str, wrapper: str | None, tmp_path: Path) -> None:
    content = OrderedDict(WEIGHTS) if wrapper is None else {"epoch": 3, wrapper: WEIGHTS}
    assert_same(read_state_dict(saved(content, tmp_path / "weights.pt", form)), WEIGHTS)


def test_a_state_dict_with_metadata_is_read(form: str, tmp_path: Path) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict()
    assert state._metadata  # what torch hangs onto the dictionary as an attribute
    assert_same(read_state_dict(saved(state, tmp_path / "weights.pt", form)), dict(state))


def test_safetensors_are_read_whatever_the_name(tmp_path: Path) -> None:
    expected = {name: WEIGHTS[name] for name in ("conv.weight", "conv.bias")}
    for name in ("weights.safetensors", "weights.pt"):
        save_file(expected, tmp_path / name)
        found = read_state_dict(tmp_path / name)
        assert_same({key: found[key] for key in expected}, expected)


class Executes:
    """Makes a folder when it is unpickled by something careless."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


class ExecutesWithState(Executes):
    """Changes what a function does, through the pickle's BUILD."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (), (None, {"__defaults__": (13,)})


@pytest.mark.parametrize("place", ["value", "wrapper", "deep", "key"])
def test_nothing_is_executed(form: str, place: str, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    hostile = Executes(folder)
    content: dict[Any, Any] = {
        "value": {**WEIGHTS, "hostile": hostile},
        "wrapper": {"model": WEIGHTS, "args": hostile},
        "deep": {"model": WEIGHTS, "cfg": [({"a": {1: [hostile]}},)]},
        "key": {hostile: 1, "model": WEIGHTS},
    }[place]
    path = saved(content, tmp_path / "weights.pt", form)
    assert_same(read_state_dict(path), WEIGHTS)
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.exists(), "the file is hostile to whoever trusts it"


def test_functions_and_classes_cannot_be_changed(form: str, tmp_path: Path) -> None:
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    content = {"model": WEIGHTS, "args": ExecutesWithState(tmp_path)}
    assert_same(read_state_dict(saved(content, tmp_path / "weights.pt", form)), WEIGHTS)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults


HAND_MADE = {
    "global and reduce": b"cos\nmkdir\n(S'made'\ntR.",
    "inst": b"(S'made'\nios\nmkdir\n.",
    "obj": b"(cos\nmkdir\nS'made'\no.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x04made\x85R.",
    "nested attribute": b"\x80\x04\x8c\x08builtins\x8c\x0cexec.__call__\x93\x8c\x01x\x85R.",
    "build on a class": b"cos\nmkdir\n}S'x'\nI1\nsb.",
    "extension code": b"\x80\x02\x82\x01.",
    "memory": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "storage out of nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR.",
    "unknown storage": b"\x80\x02(X\x01\x00\x00\x00atQ.",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_pickles_are_refused_and_do_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("hostile.pt", "w") as archive:
        archive.writestr("archive/data.pkl", HAND_MADE[name])
    Path("hostile.bin").write_bytes(HAND_MADE[name] + b"\0")
    for file in ("hostile.pt", "hostile.bin"):
        with pytest.raises(UserError, match=file):
            read_state_dict(Path(file))
    assert not Path("made").exists()


@pytest.mark.parametrize("make", ["Dictionary", "Namespace", "omegaconf"])
def test_a_checkpoint_with_objects_around_its_weights(
    form: str, make: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fairseq writes them: its classes are not installed where the file is read."""
    module = types.ModuleType("fairseq.data.dictionary")
    kind = type("Dictionary", (list,), {"__module__": module.__name__})
    module.Dictionary = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fairseq", types.ModuleType("fairseq"))
    monkeypatch.setitem(sys.modules, "fairseq.data", types.ModuleType("fairseq.data"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    dictionary = kind(["a", "b"])
    dictionary.indices = {"a": 0}  # type: ignore[attr-defined]
    thing = {
        "Dictionary": [dictionary],
        "Namespace": argparse.Namespace(arch="hubert", weights=[1, 2]),
        "omegaconf": OmegaConf.create({"model": {"layers": [1, 2]}, "seed": None}),
    }[make]
    content = {
        "cfg": thing,
        "model": WEIGHTS,
        "last_optimizer_state": {0: {"exp_avg": torch.ones(5)}},
        "task_state": {"dictionaries": thing},
    }
    path = saved(content, tmp_path / "checkpoint.pt", form)
    for name in ("fairseq", "fairseq.data", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert_same(read_state_dict(path), WEIGHTS)
    assert module.__name__ not in sys.modules


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("form", [*FORMATS, "safetensors"])
def test_a_truncated_file_is_named(form: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    big = {"weight": torch.ones(3000)}
    if form == "safetensors":
        save_file(big, path)
    else:
        saved(big, path, form)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"weights\.pt .*cut short, damaged"):
        read_state_dict(path)


def test_damage_anywhere_is_never_anything_but_a_user_error(form: str, tmp_path: Path) -> None:
    path = saved({"model": WEIGHTS, "cfg": {"a": [1, 2.0, "x"]}}, tmp_path / "weights.pt", form)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(0, len(whole), (200,), generator=generator).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(UserError):
            found = read_state_dict(path)
            assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing"),
        (b"<!DOCTYPE html><title>404</title>", "<!DOCTYPE html>"),
        ("version https://git-lfs … ".encode() * 40, "version https://git-lfs"),
    ],
)
def test_text_in_the_place_of_weights_is_shown(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(UserError, match="fetch the file again") as caught:
        read_state_dict(tmp_path / "weights.pt")
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [{}, {"epoch": 1, "args": {"a": 2}}, [1, 2], torch.ones(2)])
def test_a_file_without_weights_says_what_it_holds(form: str, content: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no weights: expected tensors by name.*found"):
        read_state_dict(saved(content, tmp_path / "weights.pt", form))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt: there is no such file"):
        read_state_dict(tmp_path / "nowhere.pt")
