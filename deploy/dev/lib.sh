# shellcheck shell=bash
# Shared by the scripts of this folder; source it, do not run it.
# Everything that these scripts create lies under DEV, in the project's own folder.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
DEV=$ROOT/.dev

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# ours PID WORD: is PID alive, and does its command line mention WORD? Process ids are used again by the system, so a
# recorded one is never believed unseen.
ours() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$2"; }

# end PID WORD [SIGNAL]: ends the process if it is ours, waits up to ten seconds, then kills it.
end() {
  local pid=$1 word=$2
  ours "$pid" "$word" || return 0
  kill "-${3:-TERM}" "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do
    # A process on its way out has no command line any more but may still hold its files and port.
    case $(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) in '' | Z) return 0 ;; esac
    sleep 0.1
  done
  ours "$pid" "$word" || return 0
  say "pid $pid ($word) did not end in 10 s; killing it"
  kill -KILL "$pid" 2>/dev/null || true
}

# free_port FILE: the port recorded in FILE, or a free one on loopback, which it records. The range lies under the one
# from which the system takes ports for outgoing connections.
free_port() {
  [ -s "$1" ] || "$(python)" - >"$1" <<'PY'
import random, socket
while True:
    port = random.randrange(20000, 32000)
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
PY
  cat "$1"
}

python() { if [ -x "$DEV/venv/bin/python" ]; then echo "$DEV/venv/bin/python"; else command -v python3; fi; }

# role_of SERVICE: the role as which it logs in to Postgres.
role_of() { case $1 in dispatcher) echo gatewayzen_service ;; *) echo "gatewayzen_${1//-/_}" ;; esac; }

# The folder of the newest installed PostgreSQL server. Debian keeps it out of PATH.
pg_bin() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
  if [ -x "$found/initdb" ]; then echo "$found"; return; fi
  found=$(command -v initdb) || die "PostgreSQL's server is not installed; run deploy/dev/setup"
  dirname "$(readlink -f "$found")"
}

# as_postgres COMMAND…: PostgreSQL refuses to run as root; under root it becomes the system's postgres user. Where that
# user may not pass through the folders above the project (a clone in the home of root, say), it gets the one capability to do so,
# which is better than loosening somebody's home folder.
as_postgres() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  local become=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  if ! "${become[@]}" test -x "$DEV"; then
    become+=(--inh-caps=+dac_read_search --ambient-caps=+dac_read_search)
  fi
  (cd / && exec "${become[@]}" "$@")
}
