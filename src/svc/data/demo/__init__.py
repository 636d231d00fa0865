"""Synthetic singers with exact F0 and exact parallel truth, made on the spot from a seed."""
