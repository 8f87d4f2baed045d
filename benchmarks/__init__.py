"""Millstream and its peers on the same machine, with the same load, in one run: `python -m benchmarks`."""
