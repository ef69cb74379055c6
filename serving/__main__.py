"""``python -m serving``: serve with the settings of the environment."""

import sys

from serving.run import run

sys.exit(run())
