"""One connection under test: its protocols, its section and its events."""

import asyncio

from .pattern import Source


class Connection:
    """What the protocols of one transport share."""

    def __init__(self, run, index):
        self.run = run
        self.index = index
        self.name = f"c{index}"
        self.section = run.trace.section(self.name)
        self.source = Source()
        self.transport = None
        self.received = 0
        self.finished = []
        self.is_lost = False

    def post(self, event, n=1):
        self.run.board.post(f"{self.name}.{event}", n)

    def protocol(self, number):
        """Make the protocol object for entry number of "protocols"."""
        spec = self.run.scenario.protocols[number]
        kinds = {"stream": StreamProtocol, "buffered": BufferedProtocol,
                 "datagram": DatagramProtocol, "subprocess": SubprocessProtocol}
        default = {"udp": "datagram", "unixgram": "datagram",
                   "subprocess": "subprocess"}.get(self.run.scenario.kind, "stream")
        return kinds[spec.get("kind", default)](self, number, spec)


class Reactions:
    """What one protocol does in its callbacks, by name, number and count."""

    def __init__(self, conn, number, spec):
        self.conn = conn
        self.number = number
        self.spec = spec
        self.prefix = f"p{number}." if number else ""
        self.on = dict(spec.get("on", {}))
        self.counts = {}

    def line(self, text, section=None):
        return (section or self.conn.section).add(self.prefix + text)

    def fire(self, event, section=None):
        """Run the actions of one occurrence and then post it."""
        n = self.counts[event] = self.counts.get(event, 0) + 1
        actions = self.on.get(event, []) + self.on.get(f"{event}#{n}", [])
        try:
            return self._perform(actions, section)
        finally:
            self.conn.post(event)

    def fire_bytes(self, event, before, n, section=None):
        """Run the actions due when a byte count passes their mark."""
        actions = list(self.on.get(event, []))
        for at in sorted(self._marks(event)):
            if before < at <= before + n:
                actions += self.on[f"{event}@{at}"]
        try:
            self._perform(actions, section)
        finally:
            self.conn.post(event, n)

    def _marks(self, event):
        return [int(k.partition("@")[2]) for k in self.on
                if k.startswith(event + "@")]

    def _perform(self, actions, section):
        if not actions:
            return None
        return self.conn.run.actions.perform(
            self.conn, actions, section or self.conn.section)


class _Base:
    def __init__(self, conn, number, spec):
        self.conn = conn
        self.react = Reactions(conn, number, spec)

    def connection_made(self, transport):
        self.conn.transport = transport
        self.conn.run.prepare_transport(transport)
        self.react.line("made")
        self.react.fire("made")

    def connection_lost(self, exc):
        self.conn.is_lost = True
        self.react.line(f"lost {self.conn.run.error_name(exc)}{self._after()}")
        self.react.fire("lost")

    def _after(self):
        return ""

    def pause_writing(self):
        self.react.line("pause", self.pause_section())
        self.react.fire("pause", self.pause_section())

    def resume_writing(self):
        self.react.line("resume", self.pause_section())
        self.react.fire("resume", self.pause_section())

    def pause_section(self):
        return self.conn.section


class _Stream(_Base):
    def received(self, label, data):
        conn = self.conn
        conn.section.data(self.react.prefix + label, data)
        before, conn.received = conn.received, conn.received + len(data)
        if self.react.spec.get("echo"):
            conn.transport.write(data)
        self.react.fire_bytes("data", before, len(data))

    def eof_received(self):
        self.react.line("eof")
        return self.react.fire("eof")


class StreamProtocol(_Stream, asyncio.Protocol):
    def data_received(self, data):
        assert data
        self.received("data", data)


class BufferedProtocol(_Stream, asyncio.BufferedProtocol):
    def __init__(self, conn, number, spec):
        super().__init__(conn, number, spec)
        self.buffer = bytearray(spec.get("buffer", 65536))
        self.view = memoryview(self.buffer)
        if spec.get("returns") == "bytearray":
            self.view = self.buffer

    def get_buffer(self, sizehint):
        self.react.fire("get_buffer")
        return self.view

    def buffer_updated(self, nbytes):
        assert 0 < nbytes <= len(self.buffer)
        self.received("buffer", bytes(self.buffer[:nbytes]))


class DatagramProtocol(_Base, asyncio.DatagramProtocol):
    def datagram_received(self, data, addr):
        sender = self.conn.run.address_name(addr)
        self.react.line(f"dgram {self.conn.run.describe(data)} from {sender}")
        self.react.fire("dgram")

    def error_received(self, exc):
        self.react.line(f"error {self.conn.run.error_name(exc)}")
        self.react.fire("error")


class SubprocessProtocol(_Base, asyncio.SubprocessProtocol):
    """Each pipe has a section of its own: between pipes no order is defined."""

    def __init__(self, conn, number, spec):
        super().__init__(conn, number, spec)
        self.pipe_bytes = {}

    def pipe_section(self, fd):
        return self.conn.run.trace.section(f"{self.conn.name}.fd{fd}")

    def pause_section(self):
        return self.pipe_section(0)

    def pipe_data_received(self, fd, data):
        section, event = self.pipe_section(fd), f"fd{fd}"
        section.data(self.react.prefix + "data", data)
        before = self.pipe_bytes.get(fd, 0)
        self.pipe_bytes[fd] = before + len(data)
        self.react.fire_bytes(event, before, len(data), section)

    def pipe_connection_lost(self, fd, exc):
        self.react.line(f"lost {self.conn.run.error_name(exc)}", self.pipe_section(fd))
        self.conn.finished.append(f"fd{fd}")
        self.react.fire(f"fd{fd}_lost", self.pipe_section(fd))

    def process_exited(self):
        self.react.line(f"exited {self.conn.transport.get_returncode()}")
        self.conn.finished.append("exited")
        self.react.fire("exited")

    def _after(self):
        return " after " + " ".join(sorted(self.conn.finished))
