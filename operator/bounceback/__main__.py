"""`python -m bounceback` is the command line."""

import sys

from bounceback.cli.main import main

sys.exit(main())
