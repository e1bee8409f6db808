"""Measure size and time, one benchmark a file, ratios within one run: `python -m modeling_oskdft.benchmark NAME`."""
