"""Make a student before it is trained: out of a teacher, or out of a checkpoint of the authors' code."""
