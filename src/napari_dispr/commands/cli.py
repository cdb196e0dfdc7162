"""The command line. Exit status 0; 2 for wrong input; 130 when interrupted."""

import argparse
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from napari_dispr.errors import InputError
from napari_dispr.version import __version__

#: Modules of this package, in the order of ``--help``.
_COMMANDS = (
    *("demo", "predict", "batch", "more", "denoise", "measure", "rank", "complete", "export", "report"),
    *("dataset", "calibrate", "augment", "train", "evaluate", "classify", "synthesise", "models"),
)

#: What to do when a disk is full, and without permission, by the numbers of the errors.
_CURES = {
    (
        errno.ENOSPC,
        errno.EDQUOT,
    ): ": free some space there, or choose another folder, and repeat the command; finished results are kept",
    (errno.EACCES, errno.EPERM, errno.EROFS): ": change it, or choose another file or folder",
}


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}: see {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    # A path may have letters that the terminal's encoding lacks: they are shown as escapes.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # messages of ours say what is wrong with a file
    # A request to end is as Ctrl-C: what is finished is kept, and temporary files go.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        parser = _parser()
        options, unknown = parser.parse_known_args(arguments)
        if unknown and "dataset" in options and not unknown[0].startswith("-"):
            raise InputError(
                f"{options.dataset} and {unknown[0]} are two paths: give one folder of cells. If they are "
                "images and labels, napari-dispr dataset cuts the cells from them."
            )
        if unknown:
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        status = options.command(options) or 0
        print(end="", flush=True)
        return status
    except InputError as error:
        print(f"napari-dispr: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as in `... | head`
        _drop_output()
        return 128 + 13
    except OSError as error:
        what = error.filename or "a file or the output"
        cure = next((cure for numbers, cure in _CURES.items() if error.errno in numbers), "")
        print(f"napari-dispr: {what}: {error.strerror or error}{cure}.", file=sys.stderr)
        _drop_output()
        return 2
    except MemoryError:
        print(
            "napari-dispr: There is not enough memory: close other programs, or use a smaller picture; "
            "finished results are kept.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("napari-dispr: interrupted; finished results are kept.", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: a handler that Python did not set


def _drop_output() -> None:
    """Drop what standard output could not take: Python would try again at its end, and print an exception."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> _Parser:
    parser = _Parser(
        prog="napari-dispr",
        description="Ensembles of 3D cell shapes from one 2D microscopy picture.",
        epilog="`napari-dispr COMMAND --help` explains a command. To start: `napari-dispr demo`.",
    )
    parser.add_argument("--version", action="version", version=f"napari-dispr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in _COMMANDS:
        import_module(f"napari_dispr.commands.{name}").add(commands)
    return parser
