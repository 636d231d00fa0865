"""A terminal for the tests of commands."""

from command_line import terminal

__all__ = ["terminal"]
