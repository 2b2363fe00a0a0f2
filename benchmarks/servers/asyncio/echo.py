"""Echo with asyncio or uvloop, on transports and protocols."""
import argparse
import asyncio
import resource
import ssl


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


# One buffer serves all connections: get_buffer and buffer_updated of one
# connection follow each other without another connection in between.
SHARED = memoryview(bytearray(64 * 1024))


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return SHARED

    def buffer_updated(self, n):
        # A copy, because write may keep what the kernel does not take.
        self.transport.write(bytes(SHARED[:n]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class SendFile(asyncio.Protocol):
    def __init__(self, path):
        self.path = path

    def connection_made(self, transport):
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.send(loop, transport))

    async def send(self, loop, transport):
        with open(self.path, "rb") as f:
            await loop.sendfile(transport, f)
        transport.close()


def tls_context(cert, key):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.minimum_version = ssl.TLSVersion.TLSv1_3
    # Let the client choose, as the other servers do; otherwise OpenSSL would
    # insist on AES-256 where they use AES-128.
    ctx.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    ctx.load_cert_chain(cert, key)
    return ctx


async def serve(args):
    loop = asyncio.get_running_loop()
    protocol = BufferedEcho if args.buffered else Echo
    if args.file:
        protocol = lambda: SendFile(args.file)
    options = {"ssl": tls_context(args.cert, args.key)} if args.tls else {}
    if args.net == "unix":
        await loop.create_unix_server(protocol, args.addr, **options)
    else:
        host, port = args.addr.rsplit(":", 1)
        if args.net == "udp":
            await loop.create_datagram_endpoint(DatagramEcho, (host, int(port)))
        else:
            await loop.create_server(protocol, host, int(port), backlog=1024, **options)
    await loop.create_future()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-net", default="tcp")
    parser.add_argument("-addr", required=True)
    parser.add_argument("-tls", action="store_true")
    parser.add_argument("-cert")
    parser.add_argument("-key")
    parser.add_argument("-file")
    parser.add_argument("-buffered", action="store_true")
    parser.add_argument("-uvloop", action="store_true")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.uvloop:
        import uvloop
        uvloop.install()
    asyncio.run(serve(args))


main()
