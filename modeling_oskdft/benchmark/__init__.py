"""Benchmarks: `python -m modeling_oskdft.benchmark NAME`, one file each, ratios measured in one run."""
