"""A terminal for the tests of commands, and small models for them."""

from command_line import terminal
from tiny_checkpoint import checkpoint

__all__ = ["checkpoint", "terminal"]
