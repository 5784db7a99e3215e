"""Local hosts: for each running instance a real sshd and a real gatewayd on the instance's own loopback address.

A host is a folder that stands for the home of the login user on a golden image: `gatewayd/` is a git checkout, `enter` is
what sshd runs for every login, `root/` holds those files of a machine's root that concern us, as cloud-init would have written
them. Everything that runs in it carries
HOME=<folder>, and so it is found and ended, whoever started it.
"""

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
DEV = HERE.parent.parent / ".dev"
CHECKOUT = HERE / "checkout"
USER = pwd.getpwuid(os.geteuid()).pw_name
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "/usr/sbin/sshd"

# The user of a login finds the host's own node and pm2 first, as on a golden image.
PATH = f"{DEV}/peer/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Hangs in 3.29.0, works in 3.29.1; see deploy/dev/setup.
LAST_MIGRATION = "20141004204719-add-invoice-id-to-gateway-transactions"

ENTER = """#!/bin/sh
# Run by sshd for every login on this host: the golden image's login environment and home, then the command asked for.
cd {home} || exit 1
set -- env -i HOME={home} USER={user} LOGNAME={user} SHELL=/bin/bash LANG=C.UTF-8 TERM="${{TERM:-dumb}}" PATH={path} \\
  GATEWAYZEN_ROOT={home}/root GATEWAYZEN_AS_ROOT= PM2_HOME={home}/.pm2 HOST={address} PORT={port} SSL=true DATABASE_URL={database_url} {extra} /bin/bash
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec "$@" -c "$SSH_ORIGINAL_COMMAND"; fi
exec "$@" --norc -i
"""

SSHD_CONFIG = """ListenAddress {address}
Port {port}
HostKey "{home}/root/etc/ssh/ssh_host_ed25519_key"
AuthorizedKeysFile "{home}/.ssh/authorized_keys"
PidFile "{home}/root/run/sshd.pid"
AllowUsers {user}
UsePAM {pam}
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
ForceCommand {enter}
"""


class Postgres:
    """The private Postgres, in which each host's gatewayd has a database of its own."""

    def __init__(self):
        env = dict(
            line.removeprefix("export ").split("=", 1)
            for line in (DEV / "env").read_text().splitlines()
            if line.startswith("export ")
        )
        self.port = env["PGPORT"]
        self.psql = [
            f"{env['PG_BIN']}/psql",
            "-qAtX",
            "-h",
            "127.0.0.1",
            "-p",
            self.port,
            "-U",
            "postgres",
            "-d",
            "postgres",
        ]
        self.psql += ["-v", "ON_ERROR_STOP=1"]

    def run(self, *statements):
        command = list(self.psql)
        for statement in statements:
            command += ["-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, env={"PGCONNECT_TIMEOUT": "10"})
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return done.stdout.split()

    def create(self, name, last_migration):
        """A host's own database as its golden image left it. The template has 3.29.0's tables; `last_migration` is the
        one that 3.29.1 has more, or empty."""
        if name in self.run("SELECT datname FROM pg_database"):
            return
        self.run(f'CREATE DATABASE "{name}" TEMPLATE gatewayd_template OWNER gatewayd')
        if last_migration:
            self.run(f'\\connect "{name}"', f"INSERT INTO migrations (name, run_on) VALUES ('{last_migration}', now())")

    def drop(self, name):
        self.run("SET client_min_messages = warning", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError:  # gone between the listing and the reading
        return b""


def processes_of(folder):
    """The ids of all processes of the host in this folder: sshd, its sessions, and whatever was started in a login."""
    mark = f"HOME={folder}".encode()
    config = f"{folder}/sshd_config".encode()
    parents, found = {}, set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        stat = _read(f"/proc/{entry}/stat")
        if not stat:
            continue
        state, parent = stat.rpartition(b")")[2].split()[:2]
        if state == b"Z":
            continue
        parents[int(entry)] = int(parent)
        # sshd writes its title over its environment, so it is known by its configuration file.
        if mark in _read(f"/proc/{entry}/environ").split(b"\0") or config in _read(f"/proc/{entry}/cmdline"):
            found.add(int(entry))
    grown = True
    while grown:  # a session of sshd carries neither mark, but sshd is its parent
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    found.discard(os.getpid())
    return found


def end_processes(folder, grace):
    """Ends all processes of a host: asks first, waits `grace` seconds, then kills until none is left."""
    asked = set()
    deadline = time.monotonic() + grace
    while pids := processes_of(folder):
        late = time.monotonic() >= deadline
        for pid in pids if late else pids - asked:
            try:
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            except ProcessLookupError:
                pass
        asked |= pids
        if time.monotonic() > deadline + 20:
            raise RuntimeError(f"processes {sorted(pids)} of {folder} do not end")
        time.sleep(0.05)


def _locked_account():
    """Without PAM, sshd turns away a user whose password is locked with `!`, as root's often is."""
    for line in _read("/etc/shadow").decode(errors="replace").splitlines():
        name, password = line.split(":")[:2]
        if name == USER:
            return password.startswith("!")
    return False


def _ssh_keys(user_data):
    """The host key in an instance's user data, read as cloud-init reads it: only a text that begins `#cloud-config` is
    YAML, and only `ssh_keys` concerns us."""
    if not user_data.startswith("#cloud-config"):
        return None
    keys = (yaml.safe_load(user_data) or {}).get("ssh_keys")
    if not keys:
        return None
    return keys["ed25519_private"], keys.get("ed25519_public", "")


class Host:
    """One instance's host. `want` is moved by EC2's side; a thread of the host's own follows it."""

    def __init__(self, folder, address, settings, postgres, user_data, public_key, tag):
        self.folder, self.address, self.settings, self.postgres = folder, address, settings, postgres
        self.user_data, self.public_key, self.tag = user_data, public_key, tag
        self.database = "gatewayd_" + folder.name.replace("-", "_")
        self.want, self.now, self.error = "down", "down", ""
        self._lock = threading.Lock()
        self._busy = False

    def set_want(self, want):
        with self._lock:
            if self.want == want:
                return
            self.want = want
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        while True:
            with self._lock:
                want = self.want
                if want == self.now or self.now == "removed":
                    self._busy = False
                    return
            error = ""
            try:
                {"up": self._boot, "down": self._shut_down, "removed": self._remove}[want]()
            except Exception as problem:  # noqa: BLE001 - shown by the control endpoint and on the console
                error = f"{want}: {problem}"
                print(f"{self.folder.name}: {error}", flush=True)
            with self._lock:
                # Not tried again: a real host that fails to boot stays as it is until somebody ends it.
                self.now, self.error = want, error

    def _boot(self):
        self._pause(self.settings["boot_delay"])
        if self.want != "up":
            return
        home, root = self.folder, self.folder / "root"
        for folder in ("etc/ssh", "run", "var/lib/cloud/instance"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        if not (home / "gatewayd").exists():
            subprocess.run([CHECKOUT, home / "gatewayd", self.tag], check=True, capture_output=True)
        self.postgres.create(self.database, "" if self.tag == "v3.29.0" else LAST_MIGRATION)
        self._first_boot(home, root)
        light = self.settings["mode"] == "light"
        enter = home / "enter"
        enter.write_text(
            ENTER.format(
                home=shlex.quote(str(home)),
                user=USER,
                path=shlex.quote(PATH),
                address=self.address,
                port=self.settings["gatewayd_port"],
                database_url=f"postgres://gatewayd:gatewayd@127.0.0.1:{self.postgres.port}/{self.database}",
                extra="GATEWAYD_SET=server-only" if light else "",
            )
        )
        enter.chmod(0o755)
        config = home / "sshd_config"
        config.write_text(
            SSHD_CONFIG.format(
                address=self.address,
                port=self.settings["ssh_port"],
                home=home,
                user=USER,
                pam="yes" if _locked_account() else "no",
                enter=shlex.quote(str(enter)),
            )
        )
        self._wait_for_address()
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # root's sshd will not start without
        subprocess.Popen(
            [SSHD, "-D", "-f", config, "-E", home / "sshd.log"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.settings["ssh_port"])) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("sshd does not listen; " + _read(home / "sshd.log").decode(errors="replace")[-300:])

    def _first_boot(self, home, root):
        """What cloud-init does once for an instance: keys, and its copy of the user data."""
        private = root / "etc/ssh/ssh_host_ed25519_key"
        if private.exists():
            return
        (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        (home / ".ssh/authorized_keys").write_text(self.public_key.strip() + "\n")
        copy = root / "var/lib/cloud/instance/user-data.txt"
        copy.touch(0o600)
        copy.write_text(self.user_data)
        keys = _ssh_keys(self.user_data)
        if keys is None:  # a real host then makes keys that nobody knows
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private], check=True)
            return
        private.touch(0o600)
        private.write_text(keys[0].rstrip("\n") + "\n")
        private.with_suffix(".pub").write_text(keys[1].rstrip("\n") + "\n")

    def _wait_for_address(self):
        """An ended instance's address may be given out again before its host is gone."""
        for _ in range(200):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.address, self.settings["ssh_port"]))
                    return
                except OSError:
                    time.sleep(0.1)
        raise RuntimeError(f"{self.address}:{self.settings['ssh_port']} is in use by another")

    def _pause(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.want == "up":
            time.sleep(0.02)

    def _shut_down(self):
        end_processes(self.folder, grace=2)

    def _remove(self):
        end_processes(self.folder, grace=0)
        self.postgres.drop(self.database)
        shutil.rmtree(self.folder, ignore_errors=True)

    def show(self):
        return {
            "instance": self.folder.name,
            "address": self.address,
            "folder": str(self.folder),
            "state": "failed" if self.error else self.now,
            "wanted": self.want,
            "error": self.error,
        }


def clean(folder, postgres):
    """Ends and removes all hosts under a folder, those of an earlier run that crashed as well."""
    for home in sorted(folder.glob("i-*")):
        end_processes(home, grace=0)
        if postgres:
            postgres.drop("gatewayd_" + home.name.replace("-", "_"))
        shutil.rmtree(home, ignore_errors=True)
