"""One run of one scenario: sets the stage, plays it, takes the trace."""

import asyncio
import os
import shutil
import socket
import tempfile

from . import kinds
from .actions import Actions
from .board import Board, Stuck
from .connection import Connection
from .peer import Peer
from .trace import Raised, Trace, describe, error_name

SMALL = 32768
SERVER_VERBS = {
    "close", "close_clients", "abort_clients", "start_serving", "ask", "wait_closed",
    "serve_forever", "cancel_serving",
}


APP_VERBS = {"wait", "linger", "turn", "server", "mark"}


def _is_app_verb(step):
    """Tell a step of the application from an action on the transport."""
    return step.split()[0] in APP_VERBS or step[0] == "@"


class Run:
    """The state that peers, callbacks and the application share."""

    describe = staticmethod(describe)

    def __init__(self, scenario, loop, timeout, chunks):
        self.scenario = scenario
        self.loop = loop
        self.timeout = timeout
        self.chunks = chunks
        self.trace = Trace()
        self.main = self.trace.section("main")
        self.log = self.trace.section("log")
        self.board = Board(loop, timeout)
        self.actions = Actions(self)
        self.connections = []
        self.peers = []
        self.tasks = []
        self.listener = None
        self.server = None
        self.serving = None
        self.server_address = None
        self.self_address = None
        self.family = socket.AF_UNIX if scenario.kind == "unix" else socket.AF_INET
        self.names = {}
        self.closers = []
        self.dir = tempfile.mkdtemp(prefix="conf")
        self._check()

    def _check(self):
        scenario = self.scenario
        for spec in scenario.protocols:
            for actions in spec.get("on", {}).values():
                self.actions.check(actions)
        for actions in scenario.blocks.values():
            self.actions.check(actions)
        self.actions.check([s for s in scenario.app if not _is_app_verb(s)])

    # The stage.

    def factory(self):
        """Make the connection and its first protocol."""
        if self.scenario.options.get("factory") == "raises":
            raise Raised("factory")
        conn = Connection(self, len(self.connections))
        self.connections.append(conn)
        return conn.protocol(0)

    def prepare_transport(self, transport):
        """Make the kernel's send buffer small, where that is asked for."""
        if self.scenario.small_buffers and self.scenario.kind != "subprocess":
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)

    def prepare_peer_socket(self, sock):
        """The same for a peer's socket, before it connects or listens."""
        size = self.scenario.options.get("rcvbuf")
        if size or self.scenario.small_buffers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size or SMALL)

    @property
    def refuses(self):
        return self.scenario.options.get("refuse", False)

    def path(self, name):
        return os.path.join(self.dir, name)

    def add_peers(self, make=Peer):
        for index, steps in enumerate(self.scenario.peers):
            self.peers.append(make(self, index, steps))

    def name_address(self, addr, name):
        self.names[addr] = name

    def address_name(self, addr):
        """Write an address without what differs from run to run."""
        if addr is None:
            return "null"
        if addr in ("", b""):
            return "unnamed"
        name = self.names.get(addr, "*")
        return name if isinstance(addr, (str, bytes)) else f"{addr[0]}:{name}"

    def address_of(self, name):
        return next(a for a, n in self.names.items() if n == name)

    def protocol_of(self, conn):
        return conn.transport.get_protocol()

    def spawn(self, coroutine):
        self.tasks.append(self.loop.create_task(coroutine))

    def error_name(self, exc):
        """Write an error; loosely where the kernel may report either of two."""
        name = error_name(exc)
        if self.scenario.loose_errors and name in ("ECONNRESET", "EPIPE"):
            return "peer gone"
        return name

    # The play.

    async def play(self):
        self.loop.set_exception_handler(self._report)
        await kinds.START[self.scenario.kind](self)
        await self._application()
        for peer in self.peers:
            await self.board.wait_async(peer.name + ".end")
        await self._ends()
        self.trace.freeze()

    def _report(self, loop, context):
        if "exception" in context and not self.scenario.hide_log:
            self.log.add(f"report {self.error_name(context['exception'])}")

    async def created(self, coroutine):
        """Await the creating call and show how it ended."""
        try:
            result = await asyncio.wait_for(coroutine, self.timeout)
        except (OSError, Raised, ValueError) as exc:
            self.main.add(f"create {self.error_name(exc)}")
            result = None
        else:
            made = self.board.count("c0.made") > 0
            self.main.add("create ok" + (", after made" if made else ""))
        self.board.post("created")
        return result

    async def _application(self):
        turn, index = [], 0
        for step in self.scenario.app + ["turn"]:
            verb, *args = step.split()
            if _is_app_verb(step):
                self._turn(index, turn)
                turn = []
            if verb[0] == "@":
                index = int(verb[1:])
            elif verb == "wait":
                await self.board.wait_async(args[0])
            elif verb == "mark":
                self.board.post(args[0])
            elif verb == "linger":
                await asyncio.sleep(int(args[0]) / 1000)
            elif verb == "server":
                await self._server(step, *args)
            elif verb != "turn":
                turn.append(step)

    def _turn(self, index, actions):
        """Run actions as one step of the loop, between two callbacks."""
        if actions:
            conn = self.connections[index]
            conn.section.add("app")
            self.actions.perform(conn, actions, conn.section)

    async def _server(self, text, verb, *args):
        assert verb in SERVER_VERBS, text
        line = self.main.add(text)
        try:
            await getattr(self, "server_" + verb)(line, *args)
        except Exception as exc:
            line.result(self.error_name(exc))

    async def server_close(self, line):
        self.server.close()

    async def server_close_clients(self, line):
        self.server.close_clients()

    async def server_abort_clients(self, line):
        self.server.abort_clients()

    async def server_start_serving(self, line):
        await self.server.start_serving()

    async def server_wait_closed(self, line):
        """Show that the wait lasts until the last connection is lost."""
        await asyncio.wait_for(self.server.wait_closed(), self.timeout)
        lost = sum(c.is_lost for c in self.connections)
        line.result(f"ok after {lost} lost")

    async def server_serve_forever(self, line):
        self.serving = self.loop.create_task(self.server.serve_forever())
        await asyncio.sleep(0)

    async def server_cancel_serving(self, line):
        self.serving.cancel()
        try:
            await self.serving
        except asyncio.CancelledError:
            line.result("cancelled")

    async def server_ask(self, line, what):
        answers = {
            "is_serving": lambda: str(self.server.is_serving()).lower(),
            "sockets": lambda: len(self.server.sockets),
        }
        line.result(answers[what]())

    async def _ends(self):
        for conn in self.connections:
            if self.board.count(conn.name + ".made") == 0:
                continue
            if not self.scenario.leave_open:
                await self.board.wait_async(conn.name + ".lost")
            elif not conn.is_lost:
                conn.section.add("still open")
        for task in self.tasks:
            if not self.scenario.leave_open:
                await asyncio.wait_for(task, self.timeout)

    # Striking the stage.

    async def strike(self):
        """Close whatever the scenario left open; nothing of it is traced."""
        self.trace.freeze()
        self.board.fail("the scenario is over")
        if self.server is not None:
            self.server.close()
        for conn in self.connections:
            self._drop(conn.transport)
        for task in self.tasks + [self.serving]:
            if task is not None:
                task.cancel()
        for peer in self.peers:
            peer.cleanup()
        for close in self.closers:
            close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _drop(self, transport):
        end = getattr(transport, "abort", None) or getattr(transport, "close", None)
        try:
            end()
        except Exception:
            pass  # A defect of asyncio's own (TL-21, WP-11) must not stop this.


def run(scenario, timeout=10.0, chunks=None):
    """Run a scenario in a loop of its own; return its trace as text."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_run(scenario, loop, timeout, chunks))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _run(scenario, loop, timeout, chunks):
    state = Run(scenario, loop, timeout, chunks)
    try:
        await state.play()
    except Stuck as stuck:
        state.trace.freeze()
        raise Stuck(f"{stuck}\n{state.trace.text()}") from None
    finally:
        await state.strike()
    return state.trace.text()
