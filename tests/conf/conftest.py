"""A terminal for the tests that train."""

from command_line import terminal

__all__ = ["terminal"]
