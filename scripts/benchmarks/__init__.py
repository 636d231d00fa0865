"""One benchmark per file; `scripts/bench.py` runs them and prints JSON."""
