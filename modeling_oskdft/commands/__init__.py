"""The commands of `oskdft`."""
