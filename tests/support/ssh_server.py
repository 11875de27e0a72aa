"""A real ssh server on this machine, on a port and with keys of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOST = "device"
"""What the tests' ssh calls it."""

_SECONDS_TO_START = 20.0


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: sshd.
        programs: Folder with an ``ssh`` and an ``scp`` that know the server, for the PATH.
    """

    process: subprocess.Popen[bytes]
    programs: Path

    def cut(self) -> int:
        """Cuts all connections, as a network that fails does; returns how many there were."""
        cut = 0
        for pid in _children(self.process.pid):
            for each in [*_children(pid, command="sshd"), pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            cut += 1
        return cut


def missing_program() -> str | None:
    """What is not installed here, or None."""
    names = ("ssh", "scp", "ssh-keygen")
    absent = [name for name in names if shutil.which(name) is None]
    return absent[0] if absent else None if _sshd() else "sshd"


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[Server]:
    """Starts a server; everything of it lies in ``folder``."""
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    config = folder / "ssh_config"
    config.write_text(
        f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder / 'user_key'}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder / 'known_hosts'}\n"
        "  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
    )
    programs = folder / "programs"
    programs.mkdir()
    for name in ("ssh", "scp"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {config} "$@"\n')
        program.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, locks itself in
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(_sshd()), "-D", "-e", "-f", folder / "sshd_config"], stdout=log, stderr=log
        )
    try:
        _wait_for(port)
        yield Server(process, programs)
    finally:
        process.terminate()
        process.wait()


def _sshd() -> str | None:
    # On Debian it lies where only root's PATH looks.
    return shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def _wait_for(port: int) -> None:
    until = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError("sshd did not start")


def _children(parent: int, command: str = "") -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state parent ...": the name may hold anything, so count from behind it.
            name, _, rest = stat.read_text().rpartition(")")
            if int(rest.split()[1]) == parent and command in name:
                found.append(int(stat.parent.name))
    return found
