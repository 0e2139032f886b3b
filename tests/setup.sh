#!/usr/bin/env bash
# Make this machine ready for the tests that use real parts.
#
#   setup.sh            all of these
#   setup.sh packages   Debian packages, as root and only those that are missing; and pipelines
#   setup.sh pipelines  gitlab-ci-local, from npm into the cache folder (needs Node 20 or newer)
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
    rsync                                                # gitlab-ci-local copies with it
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

# The newest that starts on Node 20; https://github.com/firecow/gitlab-ci-local
CI_LOCAL=4.73.0

pipelines() {
    local folder=${CI_LOCAL_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/responder-ci-local}
    [ "$(sed -n 's/^ *"version": "\(.*\)".*/\1/p' "$folder/node_modules/gitlab-ci-local/package.json" 2> /dev/null)" != $CI_LOCAL ] || return 0
    if ! command -v node npm > /dev/null || [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
        lacking "Node 20 or newer and npm are needed for gitlab-ci-local" "install them from https://nodejs.org/"
        return 0
    fi
    echo "setup: installing gitlab-ci-local $CI_LOCAL" >&2
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-save --no-audit --no-fund --ignore-scripts \
        --loglevel error "gitlab-ci-local@$CI_LOCAL" < /dev/null >&2 ||
        lacking "gitlab-ci-local could not be installed" "see the words above"
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
    packages) packages && pipelines ;;
    pipelines) pipelines ;;
    cluster) cluster ;;
    all) packages && pipelines && cluster ;;
    *) echo "usage: setup.sh [packages|pipelines|cluster]" >&2 && exit 64 ;;
esac
