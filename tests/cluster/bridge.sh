#!/usr/bin/env bash
# Make a registry on the host's 127.0.0.1:PORT reachable in the node under the
# same address: bridge.sh PORT. The node's namespace has its own loopback, so two
# socat meet at a unix socket. Calling it again does nothing; down.sh ends both.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
PORT=${1:?usage: bridge.sh PORT}
alive node-ns || die "no node is running in $STATE"
command -v socat > /dev/null || die "socat is missing (Debian package: socat)"
read -r NS _ < "$PIDS/node-ns"
SOCKET=$STATE/registry-$PORT
start "bridge-$PORT-host" socat "UNIX-LISTEN:$SOCKET,fork,mode=600" "TCP:127.0.0.1:$PORT"
wait_for 5 "the bridge's socket" test -S "$SOCKET"
start "bridge-$PORT-node" nsenter -t "$NS" -n socat \
    "TCP-LISTEN:$PORT,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$SOCKET"
wait_for 5 "the bridge's port" nsenter -t "$NS" -n grep -q "$(printf '0100007F:%04X' "$PORT")" /proc/net/tcp
