"""`python -m grafiqs`."""

import sys

from grafiqs.cli import main

sys.exit(main())
