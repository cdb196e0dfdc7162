"""See to the system libraries that Qt and napari's canvas need on Linux: what pip cannot install.

On Debian and its kin, as root, the missing ones are installed; elsewhere they are named. Uses only the
standard library, and is run before the tests: without these libraries Qt does not raise, it aborts Python.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: Library -> Debian's package. Found by running ldd over PyQt6 on a Debian with nothing but Python.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}
#: The virtual screen, for machines without a real one.
SCREEN = {"Xvfb": "xvfb"}


def missing() -> dict[str, str]:
    """What is not there, and the Debian package of each."""
    absent = {name: package for name, package in LIBRARIES.items() if not _loads(name)}
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        absent |= {name: package for name, package in SCREEN.items() if not shutil.which(name)}
    return absent


def _loads(name: str) -> bool:
    # In a process of its own: a library loaded here before its fellows are installed would stay as it is.
    code = f"import ctypes; ctypes.CDLL({name!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def main() -> int:
    """Install what is missing where that is possible, else name it. Returns the exit status."""
    if not sys.platform.startswith("linux"):
        return 0
    absent = missing()
    if absent and shutil.which("apt-get") and Path("/etc/debian_version").exists() and os.geteuid() == 0:
        packages = sorted(set(absent.values()))
        print("Installing the system libraries that Qt needs:", *packages, flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        ):
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
        absent = missing()
    if not absent:
        return 0
    print("The windows of the tests need these, which are not on this machine:", *absent, file=sys.stderr)
    print("On Debian: sudo apt-get install", *sorted(set(absent.values())), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
