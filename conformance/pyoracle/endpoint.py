"""The peer's end of a connection: plain blocking descriptors, no asyncio."""

import os
import socket
import ssl
import struct

from .trace import error_name

CHUNK = 65536


class End(Exception):
    """The other side ended; how is the text."""


class SocketEnd:
    """A connected stream socket."""

    def __init__(self, sock):
        self.sock = sock
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, limit):
        """Return at least one byte; raise End when there are no more."""
        try:
            data = self.sock.recv(limit)
        except OSError as exc:
            raise End(error_name(exc)) from None
        if not data:
            raise End("eof")
        return data

    def shutdown(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with a RST instead of a FIN."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)


class FileEnd:
    """The end of a pipe, FIFO or terminal, by descriptor."""

    def __init__(self, fd):
        self.fd = fd

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view):]

    def recv(self, limit):
        try:
            data = os.read(self.fd, limit)
        except OSError as exc:
            raise End(error_name(exc)) from None
        if not data:
            raise End("eof")
        return data

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class TLSEnd:
    """TLS over a SocketEnd, in memory, so that each record can be held back."""

    def __init__(self, lower, context, server_side, hostname):
        self.lower = lower
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.obj = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side,
            server_hostname=None if server_side else hostname)

    def handshake(self):
        self._drive(self.obj.do_handshake)
        self._flush()

    def send(self, data):
        self.obj.write(data)
        self._flush()

    def recv(self, limit):
        try:
            data = self._drive(lambda: self.obj.read(limit))
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLEOFError:
            raise End("eof without close_notify") from None
        except ssl.SSLError:
            raise End("tls") from None
        if not data:
            raise End("close_notify")
        return data

    def close_notify(self):
        """Send close_notify and do not wait for the answer."""
        try:
            self.obj.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def _drive(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()

    def _flush(self):
        data = self.outgoing.read()
        if data:
            self.lower.send(data)

    def _fill(self):
        try:
            self.incoming.write(self.lower.recv(CHUNK))
        except End as end:
            if str(end) != "eof":
                raise
            self.incoming.write_eof()
