# Shared functions of the test-cluster scripts. Sourced, never run. Nothing here
# creates or removes anything until a function is called.
# shellcheck shell=bash disable=SC2034

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Where everything lives. CLUSTER_STATE is one cluster: keep its path short (unix
# sockets) and free of spaces. CLUSTER_BIN holds only programs and is shared by
# every cluster and every checkout on the machine. A relative path is read from
# the caller's folder.
STATE=${CLUSTER_STATE:-$PWD/.cluster}
case $STATE in /*) ;; *) STATE=$PWD/$STATE ;; esac
BIN=${CLUSTER_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/responder-cluster/bin}
LOGS=$STATE/logs
PIDS=$STATE/pids
PKI=$STATE/pki
KCFG=$STATE/kubeconfig

POD_CIDR=${CLUSTER_POD_CIDR:-10.77.0.0/24}
SVC_CIDR=${CLUSTER_SVC_CIDR:-10.96.0.0/16}
SVC_IP=${CLUSTER_SVC_IP:-10.96.0.1}
NODE_IP=${CLUSTER_NODE_IP:-10.78.0.10}
ROUTER_IP=${CLUSTER_ROUTER_IP:-10.78.0.1}
OUTSIDE_IP=${CLUSTER_OUTSIDE_IP:-198.51.100.10}
NODE_NAME=${CLUSTER_NODE_NAME:-node-a}

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { say "ERROR: $*"; exit 1; }

# Field 22 of /proc/PID/stat: start time in ticks. With the pid it names one
# process for good, so that down.sh can never hit a reused pid. A zombie has none.
start_ticks() { sed -n 's/^.*) \([^Z]\)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

alive() { # NAME
    local pid ticks
    [ -f "$PIDS/$1" ] || return 1
    read -r pid ticks < "$PIDS/$1" || return 1
    [ -n "$pid" ] && [ "$(start_ticks "$pid")" = "$ticks" ]
}

remember() { # NAME PID
    mkdir -p "$PIDS"
    printf '%s %s\n' "$2" "$(start_ticks "$2")" > "$PIDS/$1"
}

# start NAME CMD...: run in the background, detached (setsid), log to a file,
# write the pid. A second call while it is alive does nothing.
start() {
    local name=$1
    shift
    alive "$name" && return 0
    mkdir -p "$LOGS"
    setsid "$@" < /dev/null > "$LOGS/$name.log" 2>&1 &
    local pid=$! child i
    disown
    # nsenter -p and unshare --fork wait for a child; the child is the process
    # that matters (and ends its parent with it).
    case $1 in
        nsenter | unshare)
            if [[ " $* " == *" -p "* || $1 = unshare ]]; then
                for ((i = 0; i < 100; i++)); do
                    child=$(cut -d' ' -f1 "/proc/$pid/task/$pid/children" 2>/dev/null) || true
                    [ -n "$child" ] && break
                    sleep 0.02
                done
                pid=${child:-$pid}
            fi
            ;;
    esac
    remember "$name" "$pid"
}

# stop SECONDS NAME...: TERM to all, wait, then KILL what is left (with 0: at once). Only pids that
# start() wrote and that are still the same process.
stop() {
    local limit=$1 name pid ticks i left
    shift
    for name in "$@"; do
        if alive "$name"; then
            read -r pid ticks < "$PIDS/$name"
            kill -TERM "$pid" 2> /dev/null || true
        fi
    done
    for ((i = 0; i < limit * 20; i++)); do
        left=0
        for name in "$@"; do alive "$name" && left=1; done
        [ "$left" = 0 ] && break
        sleep 0.05
    done
    for name in "$@"; do
        if alive "$name"; then
            read -r pid ticks < "$PIDS/$name"
            kill -KILL "$pid" 2> /dev/null || true
            for ((i = 0; i < 60; i++)); do
                alive "$name" || break
                sleep 0.05
            done
        fi
        rm -f "$PIDS/$name"
    done
}

# wait_for SECONDS WHAT CMD...: poll until CMD succeeds.
wait_for() {
    local limit=$1 what=$2 end
    shift 2
    end=$((SECONDS + limit))
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -ge "$end" ] && die "timed out after ${limit}s waiting for $what (see $LOGS)"
        sleep 0.1
    done
}

need() { # binaries that build.sh makes
    local b
    for b in "$@"; do
        [ -x "$BIN/$b" ] || die "$BIN/$b is missing: run build.sh first"
    done
}
