"""An arm64 Python of Raspberry Pi OS on this machine: Debian's packages unpacked, run by qemu-user.

Nothing is installed and no root is needed: apt resolves and downloads packages of another
architecture into a folder of our own, dpkg unpacks them, and qemu-user runs the Python inside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Roots cost half a minute and 30 MB of downloads; delete this folder to make them anew.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vitedge-tests"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TOOLS = ("apt-get", "dpkg", "dpkg-deb")

# A Raspberry Pi 5. qemu 7.2's own default, `max`, computes int8 wrongly (its SME). Libraries read
# /proc/cpuinfo beside it: qemu before 8.2 shows them the host's, and they crash.
CPU = "cortex-a76"
CPU_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
CPU_CORES = 4


class Unobtainable(Exception):  # noqa: N818  # not an error of ours
    """A part cannot be had here; the message says which and why."""


@dataclass(frozen=True)
class Release:
    """A release of Raspberry Pi OS, which is Debian with a kernel of its own.

    Attributes:
        name: As it is called.
        suite: Debian's name.
        python: Version of its Python.
        glibc: Minor version of its glibc 2, which decides what wheels it takes.
    """

    name: str
    suite: str
    python: str
    glibc: int


RELEASES = (
    Release("Raspberry Pi OS 12", "bookworm", "3.11", 36),
    Release("Raspberry Pi OS 13", "trixie", "3.13", 41),
)


@dataclass(frozen=True)
class EmulatedPi:
    """A root of a release, ready to run its Python."""

    release: Release
    root: Path
    qemu: Path

    def run(self, arguments: Sequence[str | Path], site: Path) -> str:
        """Runs Python with packages in ``site`` and returns what it printed.

        Raises:
            AssertionError: It failed; the message is what it wrote to stderr.
        """
        python = self.root / "usr" / "bin" / f"python{self.release.python}"
        settings = {
            "PYTHONHOME": "/usr",
            "PYTHONPATH": str(site),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command: list[str | Path] = [self.qemu, "-cpu", CPU, "-L", self.root]
        for name, value in settings.items():
            command += ["-E", f"{name}={value}"]
        host = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        host = {
            name: value
            for name, value in host.items()
            if name not in ("LD_LIBRARY_PATH", "QEMU_CPU")
        }
        done = subprocess.run(
            [*command, python, *arguments], capture_output=True, text=True, env=host, check=False
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, site: Path, requirements: Sequence[str | Path]) -> None:
        """Installs arm64 wheels, as pip on the device would choose them.

        Raises:
            Unobtainable: pip found none.
        """
        platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, self.release.glibc + 1)]
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--target",
            site,
        ]
        command += ["--python-version", self.release.python, "--only-binary", ":all:"]
        for platform in platforms:
            command += ["--platform", platform]
        try:
            _run([*command, *requirements])
        except Unobtainable:
            shutil.rmtree(site, ignore_errors=True)
            raise


def emulated_pi(release: Release) -> EmulatedPi:
    """The root of a release, made if it is not there.

    Raises:
        Unobtainable: This is no Debian, or the packages cannot be downloaded.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or not KEYRING.is_file():
        raise Unobtainable(f"needs Debian's {', '.join(missing) or KEYRING}")
    home = CACHE / f"arm64-{release.suite}"
    if not home.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = Path(folder) / "home"
            _unpack_python(release, made / "root", Path(folder) / "apt")
            _write_cpuinfo(made / "root")
            _unpack_qemu(made)
            try:
                made.replace(home)
            except OSError:  # another process was quicker
                assert home.is_dir()
    return EmulatedPi(release, home / "root", home / "qemu-aarch64-static")


def _unpack_python(release: Release, root: Path, apt: Path) -> None:
    """Python, and the libraries that its wheels link against, with all that these need."""
    for folder in ("lists/partial", "cache/archives/partial", "downloads"):
        (apt / folder).mkdir(parents=True)
    root.mkdir(parents=True)
    (apt / "status").touch()
    sources = apt / "sources.list"
    sources.write_text(f"deb [arch=arm64 signed-by={KEYRING}] {MIRROR} {release.suite} main\n")
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
    }
    apt_get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    python = f"python{release.python}"
    wanted = [f"{python}-minimal", f"lib{python}-stdlib", "libstdc++6", "libgomp1", "libatomic1"]
    _run([*apt_get, "update"])
    listed = _run([*apt_get, "--print-uris", "--yes", "install", *wanted, "openssl-"])
    # 'http://.../name_version_arm64.deb' name_version_arm64.deb 12345 SHA256:...
    names = sorted({line.split()[1].split("_")[0] for line in listed.splitlines() if "'" in line})
    _run([*apt_get, "download", *names], cwd=apt / "downloads")
    for package in sorted((apt / "downloads").glob("*.deb")):
        _run(["dpkg", "-x", package, root])
    # Debian 13's packages hold /usr only; these links are made when a system is installed.
    for name in ("bin", "sbin", "lib"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _write_cpuinfo(root: Path) -> None:
    fields = {
        "BogoMIPS": "108.00",
        "Features": CPU_FEATURES,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": "0x4",
        "CPU part": "0xd0b",
        "CPU revision": "1",
    }
    lines = [f"{name}\t: {value}" for name, value in fields.items()]
    blocks = ["\n".join([f"processor\t: {core}", *lines]) for core in range(CPU_CORES)]
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text("\n\n".join(blocks) + "\n\n")


def _unpack_qemu(home: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(
            ["apt-get", "-qq", "-oAPT::Sandbox::User=root", "download", "qemu-user-static"],
            cwd=Path(folder),
        )
        for package in Path(folder).glob("*.deb"):
            _run(["dpkg", "-x", package, folder])
        shutil.copy(Path(folder) / "usr" / "bin" / "qemu-aarch64-static", home)


def _run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        words = lines[-1] if lines else f"exit code {done.returncode}"
        raise Unobtainable(f"{Path(command[0]).name} failed: {words}")
    return done.stdout
