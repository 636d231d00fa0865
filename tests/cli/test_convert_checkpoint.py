"""svc-convert-checkpoint, and conversion with what comes out of it and what went in."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors import safe_open

from checkpoints.published_material import fish_diffsvc, original_diffsvc
from command_line import Terminal
from features.hubert_material import Reference
from svc.checkpoints import import_checkpoint
from svc.checkpoints.slim_file import read_slim
from svc.features.content.hubert import HubertContent
from svc.features.content.mfcc import MfccContent

COMMAND = "svc-convert-checkpoint"
CONTENT = MfccContent().channels


def recording(path: Path, seconds: float = 1.0) -> Path:
    time = torch.arange(int(seconds * 44_100)) / 44_100
    soundfile.write(path, 0.2 * torch.sin(2 * math.pi * 220 * time), 44_100)
    return path


def vocal_diffsvc() -> dict[str, torch.Tensor]:
    """A DiffSVC that hears what needs no weights, over the real mel."""
    state = fish_diffsvc(content=CONTENT, mel_bins=128)
    state["model.diffusion.denoise_fn.output_projection.conv.weight"].zero_()
    return state


def test_a_published_model_is_converted_reported_and_sings(terminal: Terminal) -> None:
    state = vocal_diffsvc()
    torch.save({"state_dict": {**state, "extra": torch.ones(1)}}, terminal.folder / "model.ckpt")
    options = ("options.content=mfcc", "options.speakers=[anna,bert]", "licence=CC0-1.0")
    said = terminal(COMMAND, "input=model.ckpt", "output=ours.safetensors", *options)
    assert "model.ckpt is diffsvc_fish: DiffSVC of fish-diffusion" in said.out
    assert f"used:      {len(state) - 1} weights" in said.out
    assert "missing:   none" in said.out
    assert "left over: 2\n      model.diffusion.alphas_cumprod\n      extra" in said.out
    assert "speakers: anna, bert" in said.out
    report = (terminal.folder / "ours.report.txt").read_text(encoding="utf-8")
    assert all(f"      {name}\n" in report for name in state)

    slim = read_slim(terminal.folder / "ours.safetensors")
    assert slim.facts.speakers == ["anna", "bert"]
    assert slim.facts.licence == "CC0-1.0"
    assert [parent["kind"] for parent in slim.facts.parents] == ["diffsvc_fish"]
    before = import_checkpoint(terminal.folder / "model.ckpt", {"content": "mfcc"}).module
    after = import_checkpoint(terminal.folder / "ours.safetensors")
    assert after.kind == "svc"
    assert before.state_dict().keys() == after.module.state_dict().keys()
    assert all(w.equal(after.module.state_dict()[n]) for n, w in before.state_dict().items())

    recording(terminal.folder / "song.wav")
    sing = ("input=song.wav", "output=sung.wav", "speaker=bert", "steps=2")
    terminal("svc-infer", "checkpoint=ours.safetensors", *sing)
    audio, _ = soundfile.read(terminal.folder / "sung.wav")
    assert len(audio) == 44_100
    assert audio.std() > 1e-4


def test_a_published_vocoder_renders_converted_or_not(terminal: Terminal, shared: Path) -> None:
    published = shared / "golden" / "nsf_hifigan_published_layout" / "model"
    torch.save(vocal_diffsvc(), terminal.folder / "model.ckpt")
    options = ("options.content=mfcc", "options.speakers=[anna,bert]")
    terminal(COMMAND, "input=model.ckpt", "output=ours.safetensors", *options)
    said = terminal(COMMAND, f"input={published}", "output=vocoder.safetensors")
    assert "config.json was found beside it" in said.out
    recording(terminal.folder / "song.wav")
    sung = []
    for vocoder in (published, "vocoder.safetensors"):
        sing = ("input=song.wav", "output=sung.wav", "speaker=anna", "steps=2")
        terminal("svc-infer", "checkpoint=ours.safetensors", *sing, f"vocoder={vocoder}")
        sung.append(torch.from_numpy(soundfile.read(terminal.folder / "sung.wav")[0]))
    assert sung[0].equal(sung[1])
    assert sung[0].std() > 1e-4


def test_halves_take_half_the_room(terminal: Terminal) -> None:
    torch.save(original_diffsvc(channels=64, layers=4), terminal.folder / "model.ckpt")
    sizes = {}
    for precision in ("fp32", "fp16"):
        output = f"output={precision}.safetensors"
        terminal(COMMAND, "input=model.ckpt", output, f"precision={precision}")
        sizes[precision] = (terminal.folder / f"{precision}.safetensors").stat().st_size
    assert sizes["fp16"] < 0.65 * sizes["fp32"]


def test_long_lists_are_cut_on_the_terminal_alone(terminal: Terminal) -> None:
    state = original_diffsvc() | {f"model.fs2.other.{i}": torch.ones(1) for i in range(30)}
    torch.save(state, terminal.folder / "model.ckpt")
    said = terminal(COMMAND, "input=model.ckpt")
    assert "and 24 more" in said.out
    assert "model.fs2.other.29" not in said.out
    assert "model.fs2.other.29" in (terminal.folder / "model.report.txt").read_text("utf-8")
    assert "is there already" in terminal.refused(COMMAND, "input=model.ckpt")
    said = terminal(COMMAND, "input=model.ckpt", "overwrite=true", "verbose=true")
    assert "model.fs2.other.29" in said.out


def test_an_encoder_becomes_a_file_for_content_model(terminal: Terminal) -> None:
    pytest.importorskip("fairseq2", reason="fairseq2 exists for Linux on x86-64 only")
    published = Reference().published("fairseq")
    junk = {"model": published, "last_optimizer_state": {0: torch.ones(9000)}}
    torch.save(junk, terminal.folder / "contentvec.pt")
    said = terminal(COMMAND, "input=contentvec.pt", "output=small.safetensors")
    assert "content=contentvec content.model=small.safetensors" in said.out
    with safe_open(terminal.folder / "small.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(published) - {"mask_emb", "label_embs_concat"}
    audio = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    before, after = (
        HubertContent(model=str(terminal.folder / name), layer=3).encode(audio, 16_000)
        for name in ("contentvec.pt", "small.safetensors")
    )
    assert before.equal(after)


def test_a_bad_file_in_a_folder_stops_no_other(terminal: Terminal) -> None:
    folder = terminal.folder / "downloads"
    folder.mkdir()
    for name, seed in (("a.ckpt", 0), ("c.pth", 1)):
        torch.save(fish_diffsvc(seed=seed), folder / name)
    (folder / "b.ckpt").write_text("<html>404</html>", encoding="utf-8")
    (folder / "notes.txt").write_text("not weights", encoding="utf-8")
    said = terminal.run(COMMAND, "input=downloads", "output=ours")
    assert said.code == 2
    assert "1 of 3 files" in said.err
    assert "b.ckpt" in said.err
    made = sorted(path.name for path in (terminal.folder / "ours").iterdir())
    assert made == ["a.report.txt", "a.safetensors", "c.report.txt", "c.safetensors"]


def test_our_own_files_have_no_need_of_it(
    terminal: Terminal, checkpoint: Callable[..., Path]
) -> None:
    path = checkpoint("hifisinger")
    said = terminal.refused(COMMAND, f"input={path}", "output=other.safetensors")
    assert "svc-export" in said


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 24))


def with_nan(path: Path) -> None:
    state = fish_diffsvc()
    state["model.text_encoder.projection.bias"][0] = math.nan
    torch.save(state, path)


def misshapen(path: Path) -> None:
    state = fish_diffsvc()
    state["model.energy_encoder.projection.weight"] = torch.ones(3, 1)
    torch.save(state, path)


def cut_short(path: Path) -> None:
    torch.save(fish_diffsvc(), path)
    path.write_bytes(path.read_bytes()[:-2000])


def calling(path: Path) -> None:
    path.write_bytes(b"cos\nmkdir\n(S'made'\ntR.\0")


def repeating(path: Path) -> None:
    weight = torch.zeros(1).expand(1 << 20, 1 << 20)
    torch.save({**fish_diffsvc(), "model.text_encoder.projection.weight": weight}, path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (bomb, "unpack"),
        (with_nan, "NaN"),
        (misshapen, "does not give 8 channels"),
        (cut_short, "cut short"),
        (calling, "cut short, damaged, or of another kind"),
        (repeating, "fill the memory"),
        (lambda path: path.write_bytes(b""), "holds nothing"),
        (lambda path: path.write_text("version https://git-lfs"), "version https://git-lfs"),
        (lambda path: path.write_text("<html></html>"), "<html>"),
        (lambda path: path.mkdir(), "folder without files of weights"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_cannot_be_converted_ends_with_code_2_and_leaves_nothing(
    make: Callable[[Path], None], said: str, terminal: Terminal
) -> None:
    make(terminal.folder / "input.ckpt")
    before = sorted(terminal.folder.iterdir())
    message = terminal.refused(COMMAND, "input=input.ckpt", "output=made/ours.safetensors")
    assert said in message
    assert "input.ckpt" in message
    assert sorted(terminal.folder.iterdir()) == before


def test_an_option_that_there_is_not_is_refused(terminal: Terminal) -> None:
    message = terminal.refused(COMMAND, "input=x.ckpt", "options.dilatation_cycle=4")
    assert "options.dilation_cycle" in message
    assert "output.ckpt" in terminal.refused(COMMAND, "input=x.ckpt", "output=output.ckpt")
