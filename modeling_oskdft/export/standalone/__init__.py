"""What travels with an export, and runs beside it without this package."""
