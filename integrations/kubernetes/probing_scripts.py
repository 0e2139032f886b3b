"""The few shell programs that probe containers run. Constants: nothing is ever written into them.

What differs from case to case (addresses, ports, seconds) comes as arguments, `$1` and so on, so
that no word of an alert is ever read as shell. They need `sh`, `date`, `timeout` and `nc` in the
image, `socat` or busybox's `nc` to listen, `ss` to see whether connections still move, and
`conntrack` to list and cut flows on the node. Each writes its answer to the termination log, which
the API server shows in the pod's status: nobody needs the right to read logs or to exec
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/).
"""

from __future__ import annotations

__all__ = ["CLASS", "CUT", "DIAL", "INSIDE", "LIST", "SERVE", "TELLS"]

TELLS = 4096  # bytes that a container can tell

SERVE = """
command -v socat >/dev/null && exec socat "TCP-LISTEN:$1,fork,reuseaddr" EXEC:cat
exec nc -ll -p "$1" -e cat
"""

# One new connection, in a word: open, refused (an answer came, so packets pass), timeout, rejected,
# failed. A connection that is open until the time-out ends it is open.
_ONCE = """
loud=; case "$(nc -h 2>&1)" in *-v*) loud=-v ;; esac
once() {
  began=$(date +%s)
  said=$(timeout 5 nc $loud -w 2 "$1" "$2" </dev/null 2>&1 >/dev/null); code=$?
  took=$(($(date +%s) - began))
  case "$code:$said" in
    0:* | 124:* | 143:*) word=open ;;
    *efused*) word=refused ;;
    *imed\\ out* | *imeout*) word=timeout ;;
    *nreachable* | *rohibited* | *o\\ route*) word=rejected ;;
    *) if [ "$took" -ge 2 ]; then word=timeout; else word=failed; fi ;;
  esac
}
until_wanted() {
  end=$(($(date +%s) + $4))
  while :; do
    once "$1" "$2"
    case "$3:$word" in open:open | denied:timeout | denied:rejected) break ;; esac
    [ "$(date +%s)" -ge "$end" ] && break
    sleep 1
  done
}
"""

# host port open|denied seconds: the last word, once it is as wanted or the seconds are over
DIAL = f"""{_ONCE}
until_wanted "$@"
printf %s "$word" >/dev/termination-log
"""

# the same from inside a pod, and then the pod's established connections, each round looked at
# twice, until nothing moves or the rounds are over: … seconds-between rounds
INSIDE = f"""{_ONCE}
part() {{
  ss -HOtin state established 2>/dev/null | head -n 16 | while read -r _ _ from to rest; do
    got=0; sent=0
    for one in $rest; do
      case $one in bytes_received:*) got=${{one#*:}} ;; bytes_acked:*) sent=${{one#*:}} ;; esac
    done
    echo "$from $to $got $sent"
  done
}}
show() {{ echo "$2" | while read -r line; do [ -n "$line" ] && echo "$1 $line"; done; }}
bare() {{
  while read -r _ from to state rest; do
    [ "$state" = 01 ] && echo "bare $from $to"
  done </proc/net/tcp
  while read -r _ from to state rest; do
    [ "$state" = 01 ] && echo "bare $from $to"
  done </proc/net/tcp6
}}
until_wanted "$@"
{{
  if command -v ss >/dev/null; then
    round=0
    while :; do
      was=$(part); sleep "$5"; is=$(part); round=$((round + 1))
      if [ "$was" = "$is" ] || [ "$round" -ge "$6" ]; then break; fi
    done
    show was "$was"; show is "$is"
    echo "seen ss $(ss -Htn state established | wc -l)"
  else
    bare 2>/dev/null | head -n 30
    echo "seen proc $(bare 2>/dev/null | wc -l)"
  fi
  echo "word $word"
}} >/dev/termination-log
"""

# host port settle: hold one connection, wait for the policy, and see what becomes of it
CLASS = f"""{_ONCE}
tell() {{ printf %s "$1" >/dev/termination-log; exit 0; }}
n=0
( i=0; while [ $i -lt 600 ]; do i=$((i + 1)); echo $i; sleep 1; done ) |
  nc "$1" "$2" | while read -r line; do echo "$line" >/tmp/echoed; done &
while [ ! -s /tmp/echoed ] || [ "$(cat /tmp/echoed)" -lt 2 ]; do
  n=$((n + 1)); [ $n -gt 20 ] && tell "broken"
  sleep 1
done
: >/tmp/holds
end=$(($(date +%s) + $3))
until_wanted "$1" "$2" denied "$3"
case $word in timeout | rejected) ;; open) tell none ;; *) tell "broken" ;; esac
end=$(($(date +%s) + $3)); same=0; was=$(cat /tmp/echoed)
while [ "$(date +%s)" -lt "$end" ]; do
  sleep 2
  is=$(cat /tmp/echoed)
  if [ "$is" = "$was" ]; then same=$((same + 1)); else same=0; fi
  [ $same -ge 3 ] && tell cuts
  was=$is
done
tell survives
"""

_SIDES = """
sides() {
  verb=$1; shift
  for address in "$@"; do
    family=ipv4; case "$address" in *:*) family=ipv6 ;; esac
    for side in -s -d -r -q; do
      conntrack "$verb" -f "$family" "$side" "$address" 2>/dev/null
    done
  done
}
give_up() { printf %s "$1" >/dev/termination-log; exit 3; }
command -v conntrack >/dev/null || give_up "no conntrack in this image"
conntrack -C >/dev/null 2>&1 || give_up "may not read the connection table"
own() {
  while read -r mark word rest; do
    case $mark in *--) last=$word ;; esac
    case "$word $rest" in *"host LOCAL"*) echo "own $last" ;; esac
  done </proc/net/fib_trie
}
"""

# addresses: the node's connection table for them, and the node's own addresses, on standard output
LIST = f"""{_SIDES}
sides -L "$@"
own
"""

# addresses: take their entries out of the node's connection table
CUT = f"""{_SIDES}
printf %s "$(sides -D "$@" | wc -l)" >/dev/termination-log
"""
