"""All checks, in the order of their cost: system libraries, ruff, site, mypy, pytest (with the arguments).

    python tests/run.py [pytest arguments]

Uses only the standard library. Each check runs whatever the others found; the exit status is 0 if all pass.
"""

import os
import subprocess
import sys
from pathlib import Path

import qt_libraries

ROOT = Path(__file__).resolve().parent.parent
#: Files of tests go to as many processes as there are cores, each with a thread: most tests use but one.
_IN_PARALLEL = ("-n", "logical", "--maxprocesses", "8", "--dist", "loadfile")
CHECKS = (
    ["ruff", "check", "."],
    ["mkdocs", "build", "--quiet"],
    ["mypy"],
    ["pytest", *_IN_PARALLEL, *sys.argv[1:]],
)


def main() -> int:
    """Run the checks. Returns the exit status."""
    if qt_libraries.main() != 0:
        return 1
    failed = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1"}
    for check in CHECKS:
        print("==", *check, flush=True)
        # Without a standard input nothing can wait for an answer.
        command = [sys.executable, "-m", *check]
        run = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, env=environment)
        if run.returncode != 0:
            failed.append(check[0])
    if failed:
        print("Failed:", *failed, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
