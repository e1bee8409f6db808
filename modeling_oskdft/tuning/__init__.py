"""Search the fields of a recipe: one process a trial, a journal on disk, and the best recipe at the end."""
