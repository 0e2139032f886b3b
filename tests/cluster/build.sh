#!/usr/bin/env bash
# Build the test-cluster programs from Go modules into $CLUSTER_BIN
# (default ~/.cache/responder-cluster/bin).
#
#   build.sh [tier1]    etcd and the control plane (no root needed to run)
#   build.sh node       + kubelet, kube-proxy and the program in the test images
#   build.sh all        + the NetworkPolicy enforcer
#   build.sh NAME...    single programs
#   build.sh --check .. build nothing; exit 1 when something would have to be built
#
# A program is rebuilt only when its go.mod, go.sum or the flags change (a stamp
# file beside it says with what it was built), so with a cached $CLUSTER_BIN
# this is a no-op that needs neither Go nor a network. The same inputs give the
# same bytes.
# BUILD_JOBS limits parallel compilations (default: all cores). Two builds at once
# take turns (a lock file), and the second finds the work of the first.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

K8S_VERSION=$(sed -n 's/^require k8s.io\/kubernetes v//p; s/^\tk8s.io\/kubernetes v\([^ ]*\).*/\1/p' "$HERE/k8s/go.mod" | head -1)
[ -n "$K8S_VERSION" ] || die "no k8s.io/kubernetes version in k8s/go.mod"

# version stamp: unstamped programs report v0.0.0-master
k8s_flags="-s -w"
for pkg in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    k8s_flags+=" -X $pkg.gitVersion=v$K8S_VERSION -X $pkg.gitMajor=1 -X $pkg.gitMinor=$(echo "$K8S_VERSION" | cut -d. -f2)"
    k8s_flags+=" -X $pkg.gitTreeState=clean -X $pkg.buildDate=1970-01-01T00:00:00Z"
done

TIER1=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl)
NODE=(kubelet kube-proxy probe)
REST=(kube-network-policies)
CHECK=
if [ "${1:-}" = --check ]; then
    CHECK=1
    shift
fi
[ $# -gt 0 ] || set -- tier1
want=()
for arg in "$@"; do
    case $arg in
        tier1) want+=("${TIER1[@]}") ;;
        node) want+=("${TIER1[@]}" "${NODE[@]}") ;;
        all) want+=("${TIER1[@]}" "${NODE[@]}" "${REST[@]}") ;;
        *) want+=("$arg") ;;
    esac
done

describe() { # NAME -> mod pkg flags tags
    flags="-s -w" tags=""
    case $1 in
        etcd) mod=etcd pkg=go.etcd.io/etcd/server/v3 ;;
        kube-network-policies) mod=netpol pkg=sigs.k8s.io/kube-network-policies/cmd ;;
        probe) mod=images/probe pkg=. ;;
        *) mod=k8s pkg=k8s.io/kubernetes/cmd/$1 flags=$k8s_flags tags=grpcnotrace ;;
    esac
}
stamp() { # after describe: a hash of all inputs that are ours
    {
        echo "$flags $tags"
        find "$HERE/$mod" -maxdepth 1 -type f \( -name 'go.*' -o -name '*.go' \) | sort | xargs cat
    } | sha256sum | cut -c1-32
}
compile() { # OUT PKG...
    (cd "$HERE/$mod" && CGO_ENABLED=0 go build -buildvcs=false -mod=readonly -p "${BUILD_JOBS:-$(nproc)}" \
        -trimpath -tags "$tags" -ldflags "$flags" -o "$@")
}

mkdir -p "$BIN"
exec 9> "$BIN/.lock"
flock 9
work=$(mktemp -d "$BIN/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
k8s=()
todo=()
for name in "${want[@]}"; do
    describe "$name"
    if [ -x "$BIN/$name" ] && [ "$(cat "$BIN/.$name.stamp" 2> /dev/null)" = "$(stamp)" ]; then
        continue
    fi
    todo+=("$name")
    if [ "$mod" = k8s ]; then k8s+=("$pkg"); fi
done
[ ${#todo[@]} -gt 0 ] || { say "all up to date in $BIN"; exit 0; }
[ -z "$CHECK" ] || exit 1
command -v go > /dev/null || die "Go is needed to build ${todo[*]}: install Go 1.26 or newer and put it in PATH"

t0=$SECONDS
for name in "${todo[@]}"; do
    describe "$name"
    t1=$SECONDS
    if [ "$mod" != k8s ]; then
        compile "$work/$name" "$pkg"
    elif [ ! -e "$work/$name" ]; then
        # one go command for all of them: they share most packages, and links overlap
        compile "$work/" "${k8s[@]}"
    fi
    mv "$work/$name" "$BIN/$name"
    stamp > "$BIN/.$name.stamp"
    say "$name: $(($(stat -c %s "$BIN/$name") / 1048576)) MiB ($((SECONDS - t1))s)"
done
say "built ${#todo[@]} programs in $((SECONDS - t0))s into $BIN"
