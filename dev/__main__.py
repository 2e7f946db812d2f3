"""python -m dev: the local development cluster."""

import sys

from dev.cli import main

sys.exit(main(sys.argv[1:]))
