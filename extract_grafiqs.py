"""The seeding guide's entry point: the same as `grafiqs extract`."""

import sys

from grafiqs.cli import extract_main

sys.exit(extract_main())
