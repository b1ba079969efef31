"""`python -m occkit.cli`, for machines where the script is not on the path."""

import sys

from occkit.cli import main

sys.exit(main())
