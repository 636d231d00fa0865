"""Where recordings come from, and whose voice is on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from svc.audio.io import AUDIO_SUFFIXES, find_audio_files
from svc.errors import UserError

LAYOUT = (
    "one subfolder of audio files per speaker (the subfolder's name is the speaker's), "
    "or the audio files of a single speaker directly in the folder"
)


@dataclass(frozen=True)
class Recording:
    """One audio file of one speaker."""

    path: Path
    """Where the file is now."""
    speaker: str
    """Name of the speaker, usable as a folder name."""
    name: str
    """Identity of the recording within its source: its path relative to the source's folder, with
    forward slashes. Stays the same when the source's folder is moved."""


class RecordingSource(Protocol):
    """Something that recordings can be prepared from."""

    @property
    def name(self) -> str:
        """What messages and reports call the source."""

    def recordings(self) -> list[Recording]:
        """Every recording, sorted by name; made first where the source makes its own.

        Raises:
            UserError: there is none, or the source is not laid out as it should be.
        """


class FolderSource:
    """A folder of recordings: one subfolder per speaker, or one speaker's files directly.

    Subfolders of a speaker's folder belong to that speaker. Hidden files and folders are left out,
    and so are subfolders without an audio file in them.

    Args:
        path: the folder. `~` stands for the home folder.
        name: what reports call it, and the speaker's name where the files lie directly in the
            folder; None for the folder's own name.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self._name = name

    @property
    def name(self) -> str:
        """`name`, or the folder's."""
        return self._name or self.path.resolve().name

    def recordings(self) -> list[Recording]:
        """Every audio file of the folder, sorted by name.

        Raises:
            UserError: the folder is missing, is no folder, holds no audio file, or mixes files of
                its own with subfolders of audio files.
        """
        if not self.path.is_dir():
            found = "is not a folder" if self.path.exists() else "does not exist"
            raise UserError(f"dataset.path={self.path} {found}. Give a folder that holds {LAYOUT}.")
        files = find_audio_files(self.path)
        if not files:
            raise UserError(
                f"dataset.path={self.path} holds no audio file "
                f"(looked for {', '.join(sorted(AUDIO_SUFFIXES))}). Expected: {LAYOUT}."
            )
        direct = [file for file in files if file.parent == self.path]
        if direct and len(direct) < len(files):
            raise UserError(
                f"dataset.path={self.path} mixes audio files of its own (such as {direct[0].name}) "
                f"with subfolders of audio files, so it is not clear who is on them. "
                f"Move those {len(direct)} file(s) into a subfolder named after the speaker. "
                f"Expected: {LAYOUT}."
            )
        recordings = [
            Recording(
                path=file,
                speaker=self.name if direct else file.relative_to(self.path).parts[0],
                name=file.relative_to(self.path).as_posix(),
            )
            for file in files
        ]
        return sorted(recordings, key=lambda recording: recording.name)
