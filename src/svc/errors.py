"""The errors that a person is meant to read."""

from collections.abc import Sequence


class UserError(Exception):
    """Something that the user must change: a setting, an input, a missing file.

    Commands print the message without a traceback and end with exit code 2. A good message names
    the argument, what it got, what was expected, and what to do.
    """


class UserErrors(UserError):
    """Several faults found in one go, reported together.

    Args:
        heading: one line that says what was checked.
        faults: one message per fault, in the order in which they were found.
    """

    def __init__(self, heading: str, faults: Sequence[str]) -> None:
        super().__init__(heading, faults)  # as they came, so that worker processes can send it
        self.heading = heading
        self.faults = list(faults)

    def __str__(self) -> str:
        return "\n".join([self.heading, *(f"  - {fault}" for fault in self.faults)])


class EndedOnRequest(Exception):
    """A command was asked to end (SIGTERM), and has saved its work; the exit code is 143.

    The message is for people, and empty where another process tells them.
    """
