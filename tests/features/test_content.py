"""Contract of every content encoder, and what each one promises beyond it."""

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile  # noqa: F401  # brings the library that fairseq2 looks for
import torch

from features.feature_signals import BAD_INPUTS, HOP, RATE_HZ, vowels
from features.hubert_material import LAYERS, Reference, saved
from svc.audio.io import read_audio
from svc.errors import UserError
from svc.features.content.base import ContentEncoder
from svc.features.content.mfcc import MfccContent
from svc.features.content.none import NoContent
from svc.features.content.whisper import WhisperContent


@pytest.fixture(scope="module")
def whisper(shared: Path) -> WhisperContent:
    pytest.importorskip("faster_whisper", reason="needs faster-whisper")
    folder = shared / "models" / "whisper-tiny.en"
    if not folder.is_dir():
        pytest.skip("the weights of Whisper tiny.en are not there")
    return WhisperContent(str(folder))


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> ContentEncoder:
    """A small one with random weights: the contract holds whatever they are."""
    pytest.importorskip("fairseq2", reason="fairseq2 exists for Linux on x86-64 only")
    from svc.features.content.hubert import HubertContent

    file = saved(Reference().published("bshall"), "bshall", tmp_path_factory.mktemp("hubert"))
    return HubertContent(model=str(file), layer=LAYERS)


@pytest.fixture(params=["mfcc", "none", "whisper", "hubert"])
def encoder(request: pytest.FixtureRequest) -> ContentEncoder:
    if request.param == "mfcc":
        return MfccContent()
    if request.param == "none":
        return NoContent()
    with_weights: ContentEncoder = request.getfixturevalue(request.param)
    return with_weights


def _similarity(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """[N] correlation of two [C, N], frame by frame, about their common mean."""
    mean = torch.cat([left, right], dim=1).mean(dim=1, keepdim=True)
    return torch.cosine_similarity(left - mean, right - mean, dim=0)


class TestEveryContentEncoder:
    @pytest.mark.parametrize("name", BAD_INPUTS)
    def test_any_input_gives_finite_frames(self, encoder: ContentEncoder, name: str) -> None:
        audio = BAD_INPUTS[name]
        content = encoder.encode(audio, RATE_HZ)
        assert content.dtype == torch.float32
        assert content.shape[0] == encoder.channels
        assert content.shape[1] >= (1 if audio.shape[0] >= HOP else 0)
        assert bool(torch.isfinite(content).all())
        assert float(content.abs().max() if content.numel() else 0.0) < 1000, "fits fp16"

    @pytest.mark.parametrize("seconds", [0.5, 7.3])
    def test_the_grid_covers_the_audio(self, encoder: ContentEncoder, seconds: float) -> None:
        content = encoder.encode(vowels(seconds), RATE_HZ)
        last_s = encoder.grid.first_s + (content.shape[1] - 1) * encoder.grid.step_s
        assert 0 <= encoder.grid.first_s < encoder.grid.step_s
        assert seconds - 1.5 * encoder.grid.step_s <= last_s <= seconds

    def test_runs_agree_to_the_bit(self, encoder: ContentEncoder) -> None:
        audio = vowels(1.0)
        assert torch.equal(encoder.encode(audio, RATE_HZ), encoder.encode(audio, RATE_HZ))

    def test_a_copy_in_another_process_agrees_to_the_bit(self, encoder: ContentEncoder) -> None:
        audio = vowels(0.5)
        copy = pickle.loads(pickle.dumps(encoder))
        assert torch.equal(copy.encode(audio, RATE_HZ), encoder.encode(audio, RATE_HZ))
        assert copy.identity() == encoder.identity()

    def test_the_same_sound_later_is_the_same_content(self, encoder: ContentEncoder) -> None:
        """A second of silence before the piece moves it in the encoder's windows."""
        if isinstance(encoder, NoContent):
            pytest.skip("zeros have no direction to compare")
        audio = vowels(4.0)
        lead_frames = round(1 / encoder.grid.step_s)
        lead = torch.zeros(round(lead_frames * encoder.grid.step_s * RATE_HZ))
        early = encoder.encode(audio, RATE_HZ)
        late = encoder.encode(torch.cat([lead, audio]), RATE_HZ)[:, lead_frames:]
        frames = min(early.shape[1], late.shape[1])
        inside = slice(frames // 8, frames - frames // 8)
        assert float(_similarity(early[:, inside], late[:, inside]).median()) > 0.5

    def test_audio_of_another_rate_is_resampled(self, encoder: ContentEncoder) -> None:
        low = vowels(2.0)[::2]
        content = encoder.encode(low, RATE_HZ // 2)
        assert abs(content.shape[1] * encoder.grid.step_s - 2.0) < 2 * encoder.grid.step_s

    def test_two_channels_are_the_callers_fault(self, encoder: ContentEncoder) -> None:
        with pytest.raises(ValueError, match="expected audio"):
            encoder.encode(torch.zeros(2, 1000), RATE_HZ)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_not_finite_is_refused(self, encoder: ContentEncoder, bad: float) -> None:
        with pytest.raises(ValueError, match="not finite"):
            encoder.encode(torch.tensor([0.0, bad] * 5000), RATE_HZ)

    def test_a_batch_is_its_pieces(self, encoder: ContentEncoder) -> None:
        pieces = [vowels(seconds) for seconds in (0.5, 0.0, 0.8)]
        for content, piece in zip(encoder.encode_batch(pieces, RATE_HZ), pieces, strict=True):
            assert torch.equal(content, encoder.encode(piece, RATE_HZ))

    @pytest.mark.parametrize("samples", [1, 100, 512, 1000, 8191, 44_100, 50_000])
    def test_any_length_gives_its_seconds(self, encoder: ContentEncoder, samples: int) -> None:
        content = encoder.encode(vowels(2.0)[:samples], RATE_HZ)
        frames = samples / RATE_HZ / encoder.grid.step_s
        assert abs(content.shape[1] - frames) < 2
        assert bool(torch.isfinite(content).all())

    @pytest.mark.slow
    def test_ten_minutes_in_one_piece(self, encoder: ContentEncoder) -> None:
        audio = vowels(20.0).repeat(30)
        content = encoder.encode(audio, RATE_HZ)
        assert abs(content.shape[1] - 600 / encoder.grid.step_s) < 2
        assert bool(torch.isfinite(content).all())
        assert float(content.abs().max()) < 1000, "fits fp16"


class TestMfcc:
    def test_frames_are_the_mels(self) -> None:
        encoder = MfccContent()
        assert encoder.encode(vowels(1.0), RATE_HZ).shape == (8, RATE_HZ // HOP)
        assert encoder.grid.step_s == HOP / RATE_HZ
        assert encoder.grid.first_s == HOP / RATE_HZ / 2

    def test_normalised_where_it_sounds(self) -> None:
        generator = torch.Generator().manual_seed(0)
        steps = torch.randn(2 * RATE_HZ // 4096, generator=generator).repeat_interleave(4096)
        noise = torch.randn(steps.shape[0], generator=generator)
        audio = 0.1 * (noise + steps * noise.roll(1))
        content = MfccContent().encode(audio, RATE_HZ)
        assert float(content.mean(dim=1).abs().max()) < 1e-4
        assert bool((content.std(dim=1) < 1.001).all())
        assert float(content[:3].std(dim=1).min()) > 0.4

    def test_level_does_not_matter(self) -> None:
        audio = vowels(2.0)
        quiet = MfccContent().encode(0.03 * audio, RATE_HZ)
        torch.testing.assert_close(
            quiet, MfccContent().encode(audio, RATE_HZ), atol=1e-3, rtol=1e-3
        )

    def test_a_pause_does_not_move_the_rest(self) -> None:
        audio = vowels(2.0)
        alone = MfccContent().encode(audio, RATE_HZ)
        with_pause = MfccContent().encode(torch.cat([audio, torch.zeros(400 * HOP)]), RATE_HZ)
        difference = (with_pause - alone.new_zeros(1))[:, 4 : alone.shape[1] - 4]
        assert float((difference - alone[:, 4:-4]).abs().max()) < 0.2

    def test_a_steady_filter_is_normalised_away(self) -> None:
        """A voice's tilt is constant over the piece, so its content is not."""
        audio = vowels(3.0)
        tilted = audio - 0.7 * audio.roll(1)
        similar = _similarity(
            MfccContent().encode(audio, RATE_HZ), MfccContent().encode(tilted, RATE_HZ)
        )
        assert float(similar.median()) > 0.97

    def test_silence_is_zero(self) -> None:
        assert not MfccContent().encode(torch.zeros(RATE_HZ), RATE_HZ).any()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"coefficients": 0}, "coefficients=0"),
            ({"coefficients": 40}, "mel_bins=40"),
            ({"lifter": 5}, "lifter=5"),
            ({"active_db": 0}, "active_db=0"),
        ],
    )
    def test_settings_out_of_range_are_refused(
        self, settings: dict[str, int], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            MfccContent(**settings)


class TestNone:
    def test_it_is_a_channel_of_zeros_every_20_ms(self) -> None:
        content = NoContent().encode(vowels(2.0), RATE_HZ)
        assert content.shape == (1, 100)
        assert not content.any()


class TestWhisper:
    def test_shape_and_identity(self, whisper: WhisperContent) -> None:
        assert whisper.encode(vowels(2.0), RATE_HZ).shape == (384, 100)
        assert len(whisper.identity()["weights_sha256"]) == 64

    def test_standardised_where_it_sounds(self, whisper: WhisperContent) -> None:
        audio = torch.cat([vowels(3.0), torch.zeros(RATE_HZ)])
        content = whisper.encode(audio, RATE_HZ)
        level = audio[: RATE_HZ * 4].view(200, -1).square().mean(dim=1)
        heard = content[:, level > level.max() * 1e-4]
        assert float(heard.mean(dim=1).abs().median()) < 0.1
        assert 0.7 < float(heard.std(dim=1).median()) < 1.1

    @pytest.mark.slow
    def test_frames_are_centred_at_multiples_of_20_ms(
        self, whisper: WhisperContent, shared: Path
    ) -> None:
        """Where a short burst changes the content, averaged over places within a frame."""
        whisper = WhisperContent(str(shared / "models" / "whisper-tiny.en"), standardise=False)
        rng = np.random.default_rng(0)
        late_s = []
        for i in range(24):
            centre_s = 0.8 + 0.0137 * i
            quiet = 1e-3 * rng.standard_normal(2 * RATE_HZ)
            loud = quiet.copy()
            middle = round(centre_s * RATE_HZ)
            loud[middle - 441 : middle + 441] += 0.3 * rng.standard_normal(882)
            with_burst, without = (
                whisper.encode(torch.from_numpy(x).float(), RATE_HZ) for x in (loud, quiet)
            )
            near = slice(round(centre_s * 50) - 6, round(centre_s * 50) + 7)
            change = (with_burst - without).square().sum(dim=0)[near]
            change = (change - change.quantile(0.5)).clamp_min(0)
            times_s = whisper.grid.first_s + whisper.grid.step_s * torch.arange(100)[near]
            late_s.append(float((change * times_s).sum() / change.sum()) - centre_s)
        assert abs(float(np.mean(late_s))) < 0.01

    def test_a_long_piece_has_no_seams(self, whisper: WhisperContent, shared: Path) -> None:
        """Where windows begin and end, every 2 s, content steps no more than elsewhere."""
        sentences = sorted((shared / "data" / "train" / "gc_gd").glob("*.flac"))[:4]
        audio = torch.cat([read_audio(sentence) for sentence in sentences])
        steps = whisper.encode(audio, RATE_HZ).diff(dim=1).norm(dim=0)[100:]
        by_place = steps[: steps.shape[0] // 100 * 100].view(-1, 100).mean(dim=0)
        at_seam = by_place[[0, -1]].max()
        assert float(at_seam) < 1.3 * float(by_place[2:-2].quantile(0.95))

    def test_speech_is_the_same_wherever_it_stands(
        self, whisper: WhisperContent, shared: Path
    ) -> None:
        """It is 0.77 when the trace of the position is left in, and 0.79 in windows of 30 s."""
        sentence = sorted((shared / "data" / "train" / "gc_gd").glob("*.flac"))[0]
        audio = read_audio(sentence)[: 9 * RATE_HZ]
        cut_frames = 75
        whole = whisper.encode(audio, RATE_HZ)[:, cut_frames:]
        later = whisper.encode(audio[cut_frames * RATE_HZ // 50 :], RATE_HZ)
        inside = slice(25, min(whole.shape[1], later.shape[1]) - 25)
        assert float(_similarity(whole[:, inside], later[:, inside]).median()) > 0.8

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no such folder.*content=mfcc"):
            WhisperContent(str(tmp_path / "nowhere"))

    def test_an_incomplete_folder_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(UserError, match=r"no model\.bin in it"):
            WhisperContent(str(tmp_path))

    def test_a_broken_model_is_refused(self, shared: Path, tmp_path: Path) -> None:
        pytest.importorskip("faster_whisper", reason="needs faster-whisper")
        shutil.copy(shared / "models" / "whisper-tiny.en" / "config.json", tmp_path)
        (tmp_path / "model.bin").write_bytes(b"not a model")
        with pytest.raises(UserError, match="cannot be loaded"):
            WhisperContent(str(tmp_path))

    def test_a_name_without_network_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        faster_whisper = pytest.importorskip("faster_whisper", reason="needs faster-whisper")

        def offline(name: str) -> str:
            raise ConnectionError("no network")

        monkeypatch.setattr(faster_whisper.utils, "download_model", offline)
        with pytest.raises(UserError, match=r"tiny\.en is neither.*model\.bin.*content=mfcc"):
            WhisperContent("tiny.en")

    def test_an_unknown_name_is_refused(self) -> None:
        pytest.importorskip("faster_whisper", reason="needs faster-whisper")
        with pytest.raises(UserError, match="neither a folder nor a model"):
            WhisperContent("gigantic")

    def test_the_package_is_named_where_it_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "faster_whisper", None)
        with pytest.raises(UserError, match="pip install faster-whisper"):
            WhisperContent("tiny.en")

    @pytest.mark.parametrize("window_s", [0.5, 31.0])
    def test_windows_out_of_range_are_refused(self, window_s: float) -> None:
        with pytest.raises(UserError, match="window_s"):
            WhisperContent("tiny.en", window_s=window_s)
