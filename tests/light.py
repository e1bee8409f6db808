"""Begin a program that needs no model: only the command leaves out what registers the models, which takes seconds."""

LIGHT = "import sys; sys.argv[0] = 'oskdft'\n"
