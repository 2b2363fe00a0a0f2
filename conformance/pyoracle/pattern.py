"""The bytes that scenarios send: literals and a position-dependent pattern."""

# A prime period, so that a lost or doubled block of any usual size shifts the
# pattern and changes the hash.
PERIOD = 65521


def _block():
    x, out = 1, bytearray()
    for _ in range(PERIOD):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(x >> 16 & 0xFF)
    return bytes(out)


BLOCK = _block()
ESCAPES = {"n": "\n", "r": "\r", "s": " ", "0": "\0", "\\": "\\"}


class Source:
    """Yields one sender's bytes; the pattern goes on from call to call."""

    def __init__(self):
        self.offset = 0

    def take(self, token):
        """Return the bytes a DATA token stands for."""
        if token.startswith("="):
            return _literal(token[1:])
        return self._pattern(int(token))

    def _pattern(self, n):
        start = self.offset % PERIOD
        self.offset += n
        repeat = (start + n) // PERIOD + 1
        return (BLOCK * repeat)[start:start + n]


def _literal(text):
    out, chars = [], iter(text)
    for c in chars:
        out.append(ESCAPES[next(chars)] if c == "\\" else c)
    return "".join(out).encode("ascii")
