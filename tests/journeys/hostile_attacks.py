"""A hostile caller as a process of its own: everything that only wants to cost, for some seconds.

    python -m tests.journeys.hostile_attacks URL HOOK TOKEN SECONDS

At the end it prints one JSON object: attack -> what came back -> how often. "cut" is a connection
that ended without an answer. Never used by the product.
"""

import gzip
import json
import socket
import sys
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import partial

MIB = 1 << 20
HELD = 60  # connections of each slow kind
_PAUSE = 0.01  # seconds between two attacks
WHOLE, CUT, ANY_4XX = {"202"}, {"cut"}, {"400", "408", "413", "415", "417", "431"}

Attack = Callable[[socket.socket], None]


class Caller:
    """One hostile caller: where it calls, and what came back."""

    def __init__(self, url: str, hook: str, token: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.place = (host, int(port))
        self.head = (
            f"POST /v1/hooks/{hook} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()
        self.seen: dict[str, Counter[str]] = defaultdict(Counter)

    def dial(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(self.place, timeout=30)

    def body(self, data: bytes, said: int | None = None, /, **headers: str) -> bytes:
        """A whole request with this body, and any length said of it."""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        size = len(data) if said is None else said
        return self.head + f"{more}Content-Length: {size}\r\n\r\n".encode() + data

    def chunked(self, data: bytes, size: int) -> bytes:
        """The same in chunks."""
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return self.head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"

    def note(self, name: str, sent: bytes, *, half_close: bool = False) -> None:
        """Send this on a connection of its own and write down the first answer."""
        with self.dial() as link:
            try:
                link.sendall(sent)
                if half_close:
                    link.shutdown(socket.SHUT_WR)
                said = link.recv(4000)
            except (ConnectionError, TimeoutError):
                said = b""
        self.seen[name][said.split()[1].decode() if said else "cut"] += 1


def bomb() -> bytes:
    """A little less than a megabyte that unpacks to a gigabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * MIB
    return b"".join(packer.compress(block) for _ in range(1024))[: MIB - 1]


def quick(caller: Caller) -> Mapping[str, tuple[bytes, set[str]]]:
    """What is sent whole: name -> bytes, and the answers that are right."""
    body = caller.body
    packed = partial(body, Content_Encoding="gzip")
    flood = "".join(f"X-A{n}: b\r\n" for n in range(2000)).encode()
    return {
        "oversize": (body(b" " * (2 * MIB)), {"413", "cut"}),
        "oversize said": (body(b"{", 10**12), {"413"}),
        "length too small": (body(b'{"rule":"x"}', 3), {"400"}),
        "length negative": (body(b"{}", -2), {"400"}),
        "two lengths": (body(b"{}", 5, Content_Length="6"), {"400"}),
        "length and chunks": (body(b"{}", Transfer_Encoding="chunked"), {"400"}),
        "chunk storm": (caller.chunked(b"[" * 200_000, 1), CUT),
        "chunk storm too large": (caller.chunked(b" " * (MIB + 9), 64), {"413", "cut"}),
        "gzip bomb": (packed(bomb()), {"413"}),
        "gzip of nothing, again": (packed(gzip.compress(b"") * 40_000), {"400"}),
        "gzip twice": (packed(gzip.compress(b"{") + gzip.compress(b"}")), {"400"}),
        "gzip cut": (packed(gzip.compress(b"{}" * 99)[:-9]), {"400"}),
        "gzip in gzip": (packed(gzip.compress(gzip.compress(b"{}"))), {"400"}),
        "empty body": (body(b""), {"400"}),
        "100,000 deep": (body(b"[" * 100_000 + b"]" * 100_000), {"400"}),
        "objects 100,000 deep": (body(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), {"400"}),
        "half a pair": (body(b'{"rule":"\\ud800"}'), {"400"}),
        "NaN": (body(b'{"rule":"x","time":NaN}'), {"400"}),
        "a key twice": (body(b'{"rule":"a","rule":"b"}'), {"400"}),
        "a bare NUL": (body(b'{"rule":"a\x00"}'), {"400"}),
        # what is JSON and says something is kept, however odd
        "5,000 digits": (body(b'{"rule":"digits","time":' + b"9" * 5000 + b"}"), WHOLE),
        "1e999": (body(b'{"rule":"float","time":1e999}'), WHOLE),
        "an escaped NUL": (body(b'{"rule":"a\\u0000b"}'), WHOLE),
        "no UTF-8": (body(b'{"rule":"raw","output":"\xff\xfe\xed\xa0\x80"}'), WHOLE),
        "a header of 20 kB": (caller.head + b"X: " + b"a" * 20_000 + b"\r\n\r\n", ANY_4XX),
        "2,000 headers": (caller.head + flood + b"\r\n", ANY_4XX),
        "no header's end": (caller.head + flood * 20, ANY_4XX | CUT),
        "NUL in a header": (caller.head + b"X: \x00\r\nContent-Length: 2\r\n\r\n{}", {"400"}),
        "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 99, {"400"}),
        "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ANY_4XX | {"505"}),
        "expects tea": (body(b"{}", Expect="tea"), {"417"}),
    }


SLOW: Mapping[str, set[str]] = {
    "slow body": {"408"},
    "slow header": {"cut"},
    "length too great": {"400", "cut"},
}


def hold(caller: Caller, ends: float) -> None:
    """Connections that send a byte now and then, until the server has enough of them."""
    starts = {"slow body": caller.body(b"{", 1000), "slow header": caller.head + b"X: "}
    held = []
    for name, start in starts.items():
        for _ in range(HELD):
            link = caller.dial()
            link.sendall(start)
            link.setblocking(False)
            held.append((name, link))
    while held and time.monotonic() < ends:
        time.sleep(0.5)
        held = [(name, link) for name, link in held if not _answered(caller, name, link)]
    for name, link in held:
        caller.seen[name]["held"] += 1
        link.close()


def _answered(caller: Caller, name: str, link: socket.socket) -> bool:
    """Send one more byte; whether the server has ended it."""
    said = b""
    try:
        said = link.recv(4000)
    except BlockingIOError:
        try:
            link.send(b"a")
        except BlockingIOError:
            pass
        except ConnectionError:
            caller.seen[name]["cut"] += 1
            return True
        return False
    except ConnectionError:
        pass
    caller.seen[name][said.split()[1].decode() if said else "cut"] += 1
    link.close()
    return True


def main() -> None:
    """Attack until the time is over, then say what came back and what should have."""
    url, hook, token, seconds = sys.argv[1:]
    caller = Caller(url, hook, token)
    attacks = quick(caller)
    ends = time.monotonic() + float(seconds)
    slow = threading.Thread(target=hold, args=(caller, ends + 10))
    slow.start()
    rounds = 0
    while not rounds or time.monotonic() < ends:
        for name, (sent, _) in attacks.items():
            caller.note(name, sent)
            time.sleep(_PAUSE)
        caller.note("length too great", caller.body(b"{}", 5), half_close=True)
        rounds += 1
    slow.join()
    right = {name: sorted(wanted) for name, (_, wanted) in attacks.items()}
    right |= {name: sorted(wanted) for name, wanted in SLOW.items()}
    sys.stdout.write(json.dumps({"seen": caller.seen, "right": right, "rounds": rounds}))


if __name__ == "__main__":
    main()
