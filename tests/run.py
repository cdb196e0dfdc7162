"""All checks, in the order of their cost: system libraries, ruff, mypy, pytest (which gets the arguments).

    python tests/run.py [pytest arguments]

Uses only the standard library. Each check runs whatever the others found; the exit status is 0 if all pass.
"""

import subprocess
import sys
from pathlib import Path

import qt_libraries

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (["ruff", "check", "."], ["mypy"], ["pytest", *sys.argv[1:]])


def main() -> int:
    """Run the checks. Returns the exit status."""
    if qt_libraries.main() != 0:
        return 1
    failed = []
    for check in CHECKS:
        print("==", *check, flush=True)
        # Without a standard input nothing can wait for an answer.
        run = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            failed.append(check[0])
    if failed:
        print("Failed:", *failed, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
