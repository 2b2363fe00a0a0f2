"""Traces: sections of lines, and how values are written in them."""

import errno
import hashlib
import ssl

PRINTABLE = range(0x20, 0x7F)
SHORT = 40


class Line:
    """One line; its result may become known after later lines were added."""

    def __init__(self, text):
        self.text = text

    def result(self, value):
        self.text += f" -> {value}"

    def render(self):
        return self.text


class Bytes:
    """A line for received bytes that grows while nothing else is added."""

    def __init__(self, label):
        self.label = label
        self.data = bytearray()

    def render(self):
        return f"{self.label} {describe(bytes(self.data))}"


class Section:
    """The lines of one actor, in the order in which it produced them."""

    def __init__(self, name):
        self.name = name
        self.lines = []
        self.frozen = False

    def add(self, text):
        line = Line(text)
        if not self.frozen:
            self.lines.append(line)
        return line

    def data(self, label, data):
        """Add received bytes, joined to the line before where that is the same."""
        last = self.lines[-1] if self.lines else None
        if not (isinstance(last, Bytes) and last.label == label):
            last = Bytes(label)
            if not self.frozen:
                self.lines.append(last)
        if not self.frozen:
            last.data += data


class Trace:
    """All sections of a run."""

    def __init__(self):
        self.sections = {}

    def section(self, name):
        if name not in self.sections:
            self.sections[name] = Section(name)
        return self.sections[name]

    def freeze(self):
        for s in self.sections.values():
            s.frozen = True

    def text(self):
        out = []
        for s in sorted(self.sections.values(), key=lambda s: _order(s.name)):
            if s.lines:
                out.append(f"[{s.name}]")
                out += [line.render() for line in s.lines]
        return "\n".join(out) + "\n"


def _order(name):
    ranks = {"main": 0, "c": 1, "p": 2, "log": 3}
    rank = ranks.get(name, ranks.get(name[0], 9))
    return rank, name


def describe(data):
    """Write bytes as a length and, if short and printable, themselves."""
    if not data:
        return "0"
    if len(data) <= SHORT and all(b in PRINTABLE or b in b"\r\n" for b in data):
        text = data.decode().replace("\r", "\\r").replace("\n", "\\n")
        return f"{len(data)} '{text}'"
    return f"{len(data)} sha256:{hashlib.sha256(data).hexdigest()[:16]}"


class Raised(Exception):
    """What the action "raise NAME" raises."""


def error_name(exc):
    """Write an exception in words that do not depend on the language."""
    if exc is None:
        return "null"
    if isinstance(exc, Raised):
        return f"raised {exc}"
    if isinstance(exc, ssl.SSLError):
        return "tls"
    text = str(exc)
    if isinstance(exc, TimeoutError) or "handshake is taking longer" in text:
        return "timeout"
    if isinstance(exc, OSError):
        return _os_error_name(exc)
    return _programming_error_name(exc, text)


def _os_error_name(exc):
    if exc.errno is not None:
        return errno.errorcode.get(exc.errno, str(exc.errno))
    # asyncio's own objects, not the system's.
    plain = {BrokenPipeError: "EPIPE", ConnectionResetError: "ended early",
             ProcessLookupError: "ESRCH"}
    return plain.get(type(exc), type(exc).__name__)


def _programming_error_name(exc, text):
    if isinstance(exc, NotImplementedError):
        return "unsupported"
    if "write_eof()" in text:
        return "after write_eof"
    if "sendfile is in progress" in text:
        return "sendfile in progress"
    if "Transport is closing" in text:
        return "closed"
    if "empty buffer" in text:
        return "empty buffer"
    if isinstance(exc, ValueError):
        return "invalid"
    return type(exc).__name__


def boolean(value):
    return "true" if value else "false"
