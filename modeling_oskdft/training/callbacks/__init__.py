"""Watch a run: guards, signals, averages and log lines, one callback a file."""
