"""What the registry says about each file of weights can be relied on."""

import re

import pytest

from svc.checkpoints import registry
from svc.checkpoints.registry import Weights, shown_size
from svc.errors import UserError

ENTRIES = [pytest.param(entry, id=name) for name, entry in registry.entries().items()]


def test_what_the_commands_refer_to_is_there() -> None:
    wanted = {"hubert_soft", "contentvec", "hubert_base", "chinese_hubert", "rmvpe", "nsf_hifigan"}
    assert wanted <= registry.entries().keys()
    files = [entry.file for entry in registry.entries().values()]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("entry", ENTRIES)
class TestEntry:
    def test_hashes_are_hexadecimal_and_their_origin_is_told(self, entry: Weights) -> None:
        assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.sha256_digits is None or re.fullmatch(r"[0-9a-f]{8}", entry.sha256_digits)
        assert entry.hash_from
        assert entry.size_bytes is None or entry.size_bytes > 1_000_000

    def test_addresses_are_safe_and_cannot_change(self, entry: Weights) -> None:
        for address in entry.addresses:
            assert address.resolved().startswith("https://")
            assert address.url or re.fullmatch(r"[0-9a-f]{40}", address.revision or "")

    def test_licence_use_and_source_are_told(self, entry: Weights) -> None:
        assert entry.licence
        assert entry.licence_note
        assert entry.used_by
        assert entry.source.startswith("https://")
        assert entry.must_accept == ("NC" in entry.licence)
        assert registry.alternatives(entry.kind)


@pytest.mark.parametrize("typed", ["hubert_soft", "hubert-soft", " Hubert_Soft "])
def test_names_are_taken_as_people_type_them(typed: str) -> None:
    assert registry.entry(typed).name == "hubert_soft"


@pytest.mark.parametrize(
    ("typed", "meant"), [("contentvect", "contentvec"), ("hubert", "hubert_base"), ("pe", "rmvpe")]
)
def test_near_names_are_suggested(typed: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"name={typed}: .*Did you mean .*{meant}.*\? Known are"):
        registry.entry(typed)


def test_a_mirror_of_the_hub_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    (address,) = registry.entry("rmvpe").addresses
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert address.resolved().startswith("https://huggingface.co/lj1995/VoiceConversionWebUI/")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert address.resolved().startswith("https://mirror.example/lj1995/VoiceConversionWebUI/")


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (None, "size not published"),
        (1234, "1234 bytes"),
        (378435957, "378 MB"),
        (1330114945, "1.33 GB"),
    ],
)
def test_sizes_are_shown_for_people(size_bytes: int | None, shown: str) -> None:
    assert shown_size(size_bytes) == shown
