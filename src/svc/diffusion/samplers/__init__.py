"""Samplers: one file each, one protocol (`base`)."""
