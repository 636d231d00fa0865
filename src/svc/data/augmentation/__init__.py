"""Augmentation: what may happen to a training sample, and how it is done."""
