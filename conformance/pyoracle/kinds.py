"""How each kind of transport and its peers are set up."""

import fcntl
import os
import pty
import socket
import tempfile
import tty
from asyncio import subprocess

from . import tlsconf
from .peer import DatagramPeer, PipePeer, wrap


def _tls(run):
    conf = run.scenario.tls
    if conf is None or conf.get("start"):
        return {}
    server_side = run.scenario.role in ("server", "accepted")
    return tlsconf.transport_arguments(run.scenario, server_side)


def _listen(run):
    """Make the listening socket that peers accept from."""
    sock = socket.socket(run.family, socket.SOCK_STREAM)
    run.prepare_peer_socket(sock)
    sock.bind(run.path("listener") if run.family == socket.AF_UNIX else ("127.0.0.1", 0))
    if not run.refuses:
        sock.listen(16)
    sock.settimeout(run.timeout)
    run.closers.append(sock.close)
    run.listener = sock
    run.name_address(sock.getsockname(), "listener")


async def _stream(run):
    starts = {"client": _client, "server": _server, "attach": _attach,
              "accepted": _accepted}
    await starts[run.scenario.role](run)


async def _client(run):
    _listen(run)
    _start_peers(run)
    addr, loop = run.listener.getsockname(), run.loop
    if run.family == socket.AF_UNIX:
        call = loop.create_unix_connection(run.factory, addr, **_tls(run))
    else:
        call = loop.create_connection(run.factory, *addr, **_tls(run))
    await run.created(call)


async def _server(run):
    kwargs = _tls(run)
    kwargs["start_serving"] = not run.scenario.options.get("delay_start")
    if run.family == socket.AF_UNIX:
        call = run.loop.create_unix_server(run.factory, run.path("listener"), **kwargs)
    else:
        call = run.loop.create_server(run.factory, "127.0.0.1", 0, **kwargs)
    run.server = await call
    run.server_address = run.server.sockets[0].getsockname()
    run.name_address(run.server_address, "listener")
    run.main.add("create ok")
    run.board.post("created")
    _start_peers(run)


def _pair(run):
    """Connect two sockets; return the transport's and give the peer the other."""
    _listen(run)
    ours = socket.socket(run.family, socket.SOCK_STREAM)
    run.closers.append(ours.close)
    ours.connect(run.listener.getsockname())
    theirs, _ = run.listener.accept()
    run.add_peers()
    run.peers[0].adopt(wrap(theirs))
    return ours


async def _attach(run):
    ours = _pair(run)
    for peer in run.peers:
        peer.start()
    if run.family == socket.AF_UNIX:
        call = run.loop.create_unix_connection(run.factory, sock=ours, **_tls(run))
    else:
        call = run.loop.create_connection(run.factory, sock=ours, **_tls(run))
    await run.created(call)


async def _accepted(run):
    ours = _pair(run)
    for peer in run.peers:
        peer.start()
    await run.created(run.loop.connect_accepted_socket(run.factory, ours, **_tls(run)))


def _start_peers(run):
    run.add_peers()
    for peer in run.peers:
        peer.start()


# Datagrams.


def _datagram_socket(run, name):
    if run.scenario.kind == "unixgram":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(run.path(name))
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
    run.prepare_peer_socket(sock)
    run.name_address(sock.getsockname(), name)
    return sock


async def _datagram(run):
    options = run.scenario.options
    run.add_peers(lambda r, i, s: DatagramPeer(r, i, s, _datagram_socket(r, f"peer{i}")))
    kwargs = {}
    if not options.get("remote_only"):
        kwargs["local_addr"] = (
            run.path("self") if run.scenario.kind == "unixgram" else ("127.0.0.1", 0))
    if options.get("connected"):
        kwargs["remote_addr"] = run.address_of("peer0")
    if options.get("broadcast"):
        kwargs["allow_broadcast"] = True
    if run.scenario.kind == "unixgram":
        kwargs["family"] = socket.AF_UNIX
    if run.refuses:
        run.peers[0].close()
    pair = await run.created(run.loop.create_datagram_endpoint(run.factory, **kwargs))
    if pair:
        run.self_address = pair[0].get_extra_info("sockname")
        run.name_address(run.self_address, "self")
    for peer in run.peers:
        peer.start()


# Pipes.


def _pipe_ends(run):
    """Return (the transport's file object, the peer's end)."""
    via = run.scenario.options.get("via", "pipe")
    reading = run.scenario.kind == "read_pipe"
    makers = {"pipe": _pipe, "fifo": _fifo, "socket": _socket_pair, "pty": _pty,
              "file": _file}
    return makers[via](run, reading)


def _pipe(run, reading):
    r, w = os.pipe()
    if run.scenario.small_buffers:
        fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 4096)
    return _assign(r, w, reading)


def _fifo(run, reading):
    os.mkfifo(run.path("fifo"))
    r = os.open(run.path("fifo"), os.O_RDONLY | os.O_NONBLOCK)
    w = os.open(run.path("fifo"), os.O_WRONLY)
    os.set_blocking(r, True)
    return _assign(r, w, reading)


def _assign(r, w, reading):
    if reading:
        return open(r, "rb", 0), wrap(w)
    return open(w, "wb", 0), wrap(r)


def _socket_pair(run, reading):
    ours, theirs = socket.socketpair()
    return ours, wrap(theirs)


def _pty(run, reading):
    master, slave = pty.openpty()
    tty.setraw(slave)
    if reading:
        return open(master, "rb", 0), wrap(slave)
    return open(slave, "wb", 0), wrap(master)


def _file(run, reading):
    f = tempfile.TemporaryFile()
    r, w = os.pipe()
    os.close(w)
    return f, wrap(r)


async def _pipe_transport(run):
    ours, theirs = _pipe_ends(run)
    run.add_peers(lambda r, i, s: PipePeer(r, i, s, theirs))
    for peer in run.peers:
        peer.start()
    if run.scenario.kind == "read_pipe":
        call = run.loop.connect_read_pipe(run.factory, ours)
    else:
        call = run.loop.connect_write_pipe(run.factory, ours)
    if await run.created(call) is None:
        run.main.add("file " + ("closed" if ours.closed else "still open"))
        ours.close()


# Subprocesses.


async def _subprocess(run):
    scenario = run.scenario
    stdio = {k: _stream_option(v) for k, v in scenario.stdio.items()}
    if scenario.shell:
        call = run.loop.subprocess_shell(run.factory, scenario.shell, **stdio)
    else:
        call = run.loop.subprocess_exec(run.factory, *scenario.command, **stdio)
    run.add_peers()
    for peer in run.peers:
        peer.start()
    await run.created(call)


def _stream_option(word):
    return {"pipe": subprocess.PIPE, "null": subprocess.DEVNULL,
            "stdout": subprocess.STDOUT, "inherit": None}[word]


START = {
    "tcp": _stream, "unix": _stream, "udp": _datagram, "unixgram": _datagram,
    "read_pipe": _pipe_transport, "write_pipe": _pipe_transport,
    "subprocess": _subprocess,
}
