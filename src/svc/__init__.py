"""svc: singing voice conversion at 44.1 kHz."""

__version__ = "0.1.0"
