"""The program that is copied into every export, and runs there without this package."""
