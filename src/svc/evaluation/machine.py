"""Where times were measured."""

import os

import torch


def machine() -> str:
    """A sentence on threads and load, for those who read real-time factors."""
    threads = torch.get_num_threads()
    text = f"Computed with {threads} thread{'s' * (threads != 1)} on {os.cpu_count()} cores"
    if hasattr(os, "getloadavg"):  # not on Windows
        text += f", of which {os.getloadavg()[1]:.1f} were busy on average"
    return f"{text}."
