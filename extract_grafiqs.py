"""The seeding guide's entry point: the same as `grafiqs extract`."""

import sys

try:
    from grafiqs.cli import extract_main
except ModuleNotFoundError:
    print("grafiqs is not installed in this Python: run 'make', then 'source .venv/bin/activate'", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(extract_main())
