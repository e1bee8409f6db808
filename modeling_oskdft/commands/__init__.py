"""Run the commands of `oskdft`, one module a command."""
