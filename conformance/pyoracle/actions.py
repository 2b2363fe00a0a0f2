"""Actions: what a callback or the application does with its transport."""

import asyncio
import signal
import socket
import tempfile

from . import tlsconf
from .pattern import Source
from .scenario import ScenarioError
from .trace import Raised, boolean

# Actions that leave no line: they are the scenario's machinery.
SILENT = {"mark", "hold", "return", "raise"}


class Actions:
    def __init__(self, run):
        self.run = run

    def check(self, actions):
        """Reject a verb or question that does not exist before anything runs."""
        for text in actions:
            verb, *args = text.split()
            if verb == "pipe":
                verb, args = args[1], args[2:]
            name = "do_" + verb
            if verb == "ask":
                name = "ask_" + args[0].partition(":")[0]
                name = "do_ask" if args[0].startswith("size") else name
            if not hasattr(self, name):
                raise ScenarioError(f"{self.run.scenario.name}: unknown action {text!r}")

    def perform(self, conn, actions, section):
        """Run actions in order; return what "return" says."""
        answer = None
        for text in actions:
            verb, *args = text.split()
            if verb == "return":
                answer = args[0] == "true"
            line = None if verb in SILENT else section.add("  " + text)
            self._one(conn, conn.transport, verb, args, line)
        return answer

    def _one(self, conn, transport, verb, args, line):
        method = getattr(self, "do_" + verb)
        if verb in ("raise", "hold"):
            return method(conn, transport, line, *args)
        try:
            method(conn, transport, line, *args)
        except Exception as exc:
            if line is None:
                raise
            line.result(self.run.error_name(exc))

    # Writing.

    def do_write(self, conn, transport, line, token):
        transport.write(conn.source.take(token))

    def do_writelines(self, conn, transport, line, *tokens):
        transport.writelines([conn.source.take(t) for t in tokens])

    def do_write_eof(self, conn, transport, line):
        transport.write_eof()

    def do_limits(self, conn, transport, line, *pairs):
        limits = {}
        for pair in pairs:
            name, _, value = pair.partition("=")
            base, plus, extra = value.partition("size+")
            size = transport.get_write_buffer_size()
            limits[name] = size + int(extra) if plus else int(base)
        transport.set_write_buffer_limits(**limits)

    def do_sendto(self, conn, transport, line, token, where=None):
        addr = self.run.address_of(where) if where else None
        transport.sendto(conn.source.take(token), addr)

    def do_sendfile(self, conn, transport, line, size, *pairs):
        bounds = {k: int(v) for k, v in (p.split("=") for p in pairs)}
        self.run.spawn(self._sendfile(conn, transport, int(size), bounds))

    async def _sendfile(self, conn, transport, size, bounds):
        with tempfile.TemporaryFile() as f:
            f.write(Source().take(str(size)))
            f.flush()
            try:
                sent = await asyncio.get_running_loop().sendfile(
                    transport, f, **bounds)
            except (Exception, asyncio.CancelledError) as exc:
                sent = self.run.error_name(exc)
        conn.section.add(f"sendfile {sent}")
        conn.post("sendfile")

    # Reading, ending, switching.

    def do_pause_reading(self, conn, transport, line):
        transport.pause_reading()

    def do_resume_reading(self, conn, transport, line):
        transport.resume_reading()

    def do_close(self, conn, transport, line):
        transport.close()

    def do_abort(self, conn, transport, line):
        transport.abort()

    def do_set_protocol(self, conn, transport, line, number):
        transport.set_protocol(conn.protocol(int(number)))

    # Subprocesses.

    def do_kill(self, conn, transport, line):
        transport.kill()

    def do_terminate(self, conn, transport, line):
        transport.terminate()

    def do_signal(self, conn, transport, line, name):
        transport.send_signal(getattr(signal, name))

    def do_pipe(self, conn, transport, line, fd, verb, *args):
        """Apply an action to the transport of one of the child's pipes."""
        pipe = transport.get_pipe_transport(int(fd))
        getattr(self, "do_" + verb)(conn, pipe, line, *args)

    # TLS.

    def do_start_tls(self, conn, transport, line):
        self.run.spawn(self._start_tls(conn, transport))

    async def _start_tls(self, conn, transport):
        server_side = self.run.scenario.role in ("server", "accepted")
        kwargs = tlsconf.transport_arguments(self.run.scenario, server_side)
        for key in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
            kwargs.setdefault(key, None)
        context = kwargs.pop("ssl")
        try:
            conn.transport = await asyncio.get_running_loop().start_tls(
                transport, transport.get_protocol(), context,
                server_side=server_side, **kwargs)
        except Exception as exc:
            conn.section.add(f"tls {self.run.error_name(exc)}")
            conn.post("tls_failed")
            return
        conn.section.add("tls ok")
        self.run.protocol_of(conn).react.fire("tls")

    # Order.

    def do_soon(self, conn, transport, line, block):
        asyncio.get_running_loop().call_soon(self._block, conn, block)

    def do_later(self, conn, transport, line, milliseconds, block):
        asyncio.get_running_loop().call_later(
            int(milliseconds) / 1000, self._block, conn, block)

    def _block(self, conn, block):
        conn.section.add(f"soon {block}")
        try:
            self.perform(conn, self.run.scenario.blocks[block], conn.section)
        finally:
            conn.post("soon." + block)

    def do_mark(self, conn, transport, line, name):
        self.run.board.post(name)

    def do_hold(self, conn, transport, line, token):
        self.run.board.wait(token)

    def do_return(self, conn, transport, line, value):
        pass

    def do_raise(self, conn, transport, line, name):
        raise Raised(name)

    # Questions.

    def do_ask(self, conn, transport, line, what):
        if what.startswith("size") and what != "size":
            line.result(self.ask_size_compared(transport, what[4:]))
            return
        name, _, arg = what.partition(":")
        method = getattr(self, "ask_" + name)
        line.result(method(transport, arg) if arg else method(transport))

    def ask_is_closing(self, transport):
        return boolean(transport.is_closing())

    def ask_is_reading(self, transport):
        return boolean(transport.is_reading())

    def ask_can_write_eof(self, transport):
        return boolean(transport.can_write_eof())

    def ask_size(self, transport):
        return transport.get_write_buffer_size()

    def ask_size_compared(self, transport, how):
        """Compare the buffered size, where its number is the kernel's matter."""
        size = transport.get_write_buffer_size()
        low, high = transport.get_write_buffer_limits()
        answers = {">high": size > high, "<=high": size <= high,
                   "<=low": size <= low, ">low": size > low, ">0": size > 0}
        return boolean(answers[how])

    def ask_limits(self, transport):
        low, high = transport.get_write_buffer_limits()
        return f"low={low} high={high}"

    def ask_protocol(self, transport):
        protocol = transport.get_protocol()
        return "null" if protocol is None else f"p{protocol.react.number}"

    def ask_extra(self, transport, name):
        value = transport.get_extra_info(name)
        if name in ("sockname", "peername"):
            return self.run.address_name(value)
        return "null" if value is None else "present"

    def ask_nodelay(self, transport):
        sock = transport.get_extra_info("socket")
        return boolean(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def ask_broadcast(self, transport):
        sock = transport.get_extra_info("socket")
        return boolean(sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    def ask_pid(self, transport):
        return "positive" if transport.get_pid() > 0 else "other"

    def ask_returncode(self, transport):
        code = transport.get_returncode()
        return "null" if code is None else code

    def ask_pipe(self, transport, fd):
        return "null" if transport.get_pipe_transport(int(fd)) is None else "present"

    def ask_tls(self, transport, what):
        """Facts of the TLS layer: version, alpn, peer (its common name)."""
        obj = transport.get_extra_info("ssl_object")
        if what == "version":
            return obj.version()
        if what == "alpn":
            return obj.selected_alpn_protocol() or "null"
        cert = transport.get_extra_info("peercert")
        return dict(pair[0] for pair in cert["subject"])["commonName"] if cert else "null"
