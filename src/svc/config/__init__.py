"""Composition: where the groups are, what a valid configuration is, and how parts are built."""
