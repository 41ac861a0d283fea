"""Benchmarks against peers; run with `python -m benchmarks`."""
