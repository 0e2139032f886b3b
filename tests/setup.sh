#!/usr/bin/env bash
# Make this machine ready for the tests that use real parts.
#
#   setup.sh            both of these
#   setup.sh packages   Debian packages, as root and only those that are missing
#   setup.sh cluster    the test cluster's programs, built from Go modules
#
# What it may not or cannot do it says, with the remedy, and goes on: the tests
# that need the part are then skipped. With CI set in the environment it fails
# instead, because CI must not pass by skipping. No service is started.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

PACKAGES=(
    docker.io runc containerd docker-registry skopeo     # engine, registry
    containernetworking-plugins iptables conntrack       # the node's network
    busybox-static tini                                  # what test images are made of
    prometheus-alertmanager prometheus                   # real senders of alerts
    iproute2 socat strace curl openssl git               # tools of the bench
)

lacking() { # WHAT REMEDY
    printf 'setup: %s\n       remedy: %s\n' "$1" "$2" >&2
    if [ -n "${CI:-}" ]; then exit 1; fi
}

packages() {
    local missing=() name
    if ! command -v apt-get dpkg-query > /dev/null; then
        lacking "this is no Debian, so no package was installed" "install by hand: ${PACKAGES[*]}"
        return 0
    fi
    # Debian's own Python comes without the means to make an environment
    python3 -c 'import ensurepip' 2> /dev/null || PACKAGES+=(python3-venv)
    for name in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2> /dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        lacking "packages are missing: ${missing[*]}" "as root: apt-get install --no-install-recommends ${missing[*]}"
        return 0
    fi
    echo "setup: installing ${missing[*]}" >&2
    (without_services install "${missing[@]}") || lacking "apt-get failed" "see its words above"
}

# Registry, Prometheus and Alertmanager would start at once and listen on every interface.
# A policy-rc.d that exits 101 forbids that; one that is already there comes back.
without_services() {
    local policy=/usr/sbin/policy-rc.d kept=
    if [ -e $policy ]; then
        kept=$(mktemp)
        cp -p $policy "$kept"
    fi
    # shellcheck disable=SC2064
    trap "if [ -n '$kept' ]; then cp -p '$kept' $policy && rm -f '$kept'; else rm -f $policy; fi" EXIT
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
    "$@"
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    local options=(-q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120)
    apt-get "${options[@]}" update < /dev/null &&
        apt-get "${options[@]}" install -y --no-install-recommends "$@" < /dev/null
}

cluster() {
    local version
    if ! "$HERE/cluster/build.sh" --check all; then
        version=$(go env GOVERSION 2> /dev/null | sed 's/^go//') || version=
        if [ "$(printf '%s\n' 1.26 "${version:-0}" | sort -V | head -1)" != 1.26 ]; then
            lacking "Go 1.26 or newer is needed to build the test cluster (found: ${version:-none})" \
                "install it from https://go.dev/dl/ to /usr/local/go"
            return 0
        fi
        echo "setup: building the test cluster (about 9 minutes, once per machine)" >&2
        "$HERE/cluster/build.sh" all || lacking "the test cluster could not be built" "see the words above"
    fi
}

case ${1:-all} in
    packages) packages ;;
    cluster) cluster ;;
    all) packages && cluster ;;
    *) echo "usage: setup.sh [packages|cluster]" >&2 && exit 64 ;;
esac
