"""The peer: a thread that walks through its steps with blocking sockets."""

import random
import socket
import threading
import time

from . import tlsconf
from .endpoint import CHUNK, End, FileEnd, SocketEnd, TLSEnd
from .pattern import Source
from .trace import boolean, describe, error_name

# Above this a send is not cut into single bytes to its end: it would take
# minutes and show nothing more.
CUT_LIMIT = 2048


def cutter(mode):
    """Return the function that splits what a peer sends at once."""
    if mode == "one":
        return lambda data: _cut(data, lambda: 1)
    if mode and mode.startswith("random:"):
        rng = random.Random(int(mode.partition(":")[2]))
        return lambda data: _cut(data, lambda: rng.randint(1, 700))
    return lambda data: [data]


def _cut(data, size):
    pos = 0
    while pos < min(len(data), CUT_LIMIT):
        n = size()
        yield data[pos:pos + n]
        pos += n
    if pos < len(data):
        yield data[pos:]


class Peer(threading.Thread):
    """One script; its observations go to the section peerK."""

    def __init__(self, run, index, steps):
        super().__init__(name=f"peer{index}", daemon=True)
        self.run_state = run
        self.index = index
        self.steps = steps
        self.section = run.trace.section(self.name)
        self.source = Source()
        self.cut = cutter(run.chunks)
        self.end = None
        self.raw = None

    def run(self):
        try:
            if not self._starts_itself():
                self._first_step()
            for step in self.steps:
                verb, *args = step.split()
                getattr(self, "do_" + verb)(*args)
        except BaseException as exc:  # Any failure must release the waiters.
            self.run_state.board.fail(f"{self.name}: {type(exc).__name__}: {exc}")
        finally:
            self.run_state.board.post(f"{self.name}.end")

    def _starts_itself(self):
        return self.end is not None or any(
            s.split()[0] in ("connect", "accept") for s in self.steps)

    def _first_step(self):
        if self.run_state.scenario.role == "server":
            self.do_connect()
        elif self.run_state.listener is not None and not self.run_state.refuses:
            self.do_accept()

    def adopt(self, end):
        """Take over a connected end."""
        self.end = self.raw = end
        if isinstance(end, SocketEnd):
            end.settimeout(self.run_state.timeout)

    # Steps: setting up.

    def do_accept(self):
        sock, _ = self.run_state.listener.accept()
        self.adopt(SocketEnd(sock))

    def do_connect(self, expect=None):
        sock = socket.socket(self.run_state.family, socket.SOCK_STREAM)
        self.run_state.prepare_peer_socket(sock)
        try:
            sock.connect(self.run_state.server_address)
        except OSError as exc:
            sock.close()
            self.section.add(f"connect {error_name(exc)}")
            return
        self.adopt(SocketEnd(sock))
        if expect:
            self.section.add("connect ok")

    def do_tls(self, expect="ok"):
        """Shake hands; "fails" and "any" are what else may be expected."""
        scenario = self.run_state.scenario
        server_side = scenario.role in ("client", "attach")
        context = tlsconf.peer_context(scenario, server_side)
        tls = TLSEnd(self.end, context, server_side, "localhost")
        try:
            tls.handshake()
            result = "ok"
        except (OSError, End) as exc:
            result = f"failed ({exc!r})"
        if expect == "any":
            return
        if not result.startswith("ok" if expect == "ok" else "failed"):
            raise RuntimeError(f"handshake {result}")
        self.section.add("tls " + result.split()[0])
        self.end = tls

    # Steps: sending.

    def do_send(self, token):
        try:
            for piece in self.cut(self.source.take(token)):
                self.end.send(piece)
        except OSError as exc:
            self.section.add(f"send {token} -> {gone(exc)}")

    def do_push(self, token):
        """Send to somebody who may be gone: in one piece, errors not shown."""
        self._push(self.end, token)

    def do_raw(self, token):
        """The same beside the TLS layer."""
        self._push(self.raw, token)

    def _push(self, end, token):
        try:
            end.send(self.source.take(token))
        except OSError:
            pass

    def do_flood(self):
        """Send until the transport's end is gone; show only that it went."""
        try:
            while True:
                self.end.send(bytes(CHUNK))
        except OSError as exc:
            self.section.add(f"flood -> {gone(exc)}")

    def do_close_notify(self):
        try:
            self.end.close_notify()
        except OSError:
            pass  # The transport has gone already.

    def do_shutdown(self):
        self.raw.shutdown()

    def do_close(self):
        self.raw.close()

    def do_reset(self):
        self.raw.reset()

    # Steps: receiving.

    def do_recv(self, count):
        self._recv("recv", int(count))

    def _recv(self, label, count):
        got, how = bytearray(), ""
        try:
            while len(got) < count:
                got += self.end.recv(min(CHUNK, count - len(got)))
        except End as end:
            how = f" then {end}"
        self.section.add(f"{label} {describe(bytes(got))}{how}")

    def do_recv_all(self, uncounted=None):
        """Receive to the end; uncounted hides how much of it came through."""
        got = bytearray()
        try:
            while True:
                got += self.end.recv(CHUNK)
        except End as end:
            how = str(end)
            if self.run_state.scenario.loose_errors and how in ("eof", "ECONNRESET"):
                how = "the end"
            what = "some" if uncounted else describe(bytes(got))
            self.section.add(f"recv_all {what} then {how}")

    def do_end(self):
        """Wait for the end below TLS, discarding records."""
        try:
            while True:
                self.raw.recv(CHUNK)
        except End as end:
            self.section.add(f"end {end}")

    def do_silent(self, milliseconds):
        """Show that nothing arrives; a right implementation cannot fail it."""
        self.raw.settimeout(int(milliseconds) / 1000)
        try:
            self.raw.recv(1)
            quiet = False
        except End as end:
            quiet = str(end) in ("timeout", "EAGAIN")
        self.raw.settimeout(self.run_state.timeout)
        self.section.add(f"silent {boolean(quiet)}")

    # Steps: order.

    def do_wait(self, token):
        self.run_state.board.wait(token)

    def do_mark(self, name):
        self.run_state.board.post(name)

    def do_linger(self, milliseconds):
        time.sleep(int(milliseconds) / 1000)

    def cleanup(self):
        if self.raw is not None:
            self.raw.close()


class DatagramPeer(Peer):
    """A datagram socket; where it sends by default is the transport."""

    def __init__(self, run, index, steps, sock):
        super().__init__(run, index, steps)
        self.sock = sock
        sock.settimeout(run.timeout)
        self.end = self.raw = self

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def do_send(self, token):
        try:
            self.sock.sendto(self.source.take(token), self.run_state.self_address)
        except OSError as exc:
            self.section.add(f"send {token} -> {gone(exc)}")

    def do_recv(self, count="1"):
        for _ in range(int(count)):
            data, addr = self.sock.recvfrom(CHUNK * 4)
            self.section.add(
                f"recv {describe(data)} from {self.run_state.address_name(addr)}")

    def do_drain(self, count):
        """Receive count datagrams and show only their number and bytes."""
        got = b"".join(self.sock.recv(CHUNK * 4) for _ in range(int(count)))
        self.section.add(f"drain {count}: {describe(got)}")

    def recv(self, limit):
        try:
            return self.sock.recv(limit) or b"\0"
        except OSError as exc:
            raise End(error_name(exc)) from None

    def close(self):
        self.sock.close()


class PipePeer(Peer):
    """The other end of a pipe transport."""

    def __init__(self, run, index, steps, end):
        super().__init__(run, index, steps)
        self.adopt(end)


def gone(exc):
    """A send to somebody who is gone: which of the two errors is timing."""
    name = error_name(exc)
    return "peer gone" if name in ("EPIPE", "ECONNRESET") else name


def wrap(obj):
    """Make a peer's end of a socket or of a descriptor."""
    return SocketEnd(obj) if isinstance(obj, socket.socket) else FileEnd(obj)
