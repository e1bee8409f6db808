"""Run `oskdft` as `python -m modeling_oskdft.commands`."""

import sys

from .main import main

sys.exit(main())
