"""Conversion: audio in, audio in another voice out."""

from svc.inference.converter import Converter

__all__ = ["Converter"]
