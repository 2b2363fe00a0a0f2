"""Scenario files: finding, reading and checking them.

The format is described in ../README.md; the checks here exist so that a
misspelt key is an error and not a scenario that shows nothing.
"""

import json
import pathlib
import sys

KEYS = {
    "about", "ids", "kind", "role", "options", "tls", "peer_tls", "protocol",
    "protocols", "blocks", "peer", "peers", "app", "leave", "since", "differs",
    "command", "shell", "stdio", "loose_errors",
    "log",
}
KINDS = {"tcp", "unix", "udp", "unixgram", "read_pipe", "write_pipe", "subprocess"}
ROLES = {"client", "server", "attach", "accepted"}
OPTIONS = {
    "buffers", "refuse", "factory", "connected", "remote_only", "broadcast", "via",
    "delay_start", "rcvbuf",
}


class ScenarioError(Exception):
    """The file itself is wrong; no run can mend that."""


class Scenario:
    """One file, with the defaults filled in."""

    def __init__(self, name, path, raw):
        self.name = name
        self.path = path
        self.raw = raw
        _check(raw, path)
        self.kind = raw["kind"]
        self.role = raw.get("role", "client")
        self.options = raw.get("options", {})
        self.tls = raw.get("tls")
        self.peer_tls = raw.get("peer_tls", {})
        self.protocols = raw.get("protocols") or [raw.get("protocol", {})]
        self.blocks = raw.get("blocks", {})
        self.peers = raw.get("peers") or [raw.get("peer", [])]
        self.app = raw.get("app", [])
        self.leave_open = raw.get("leave") == "open"
        self.since = _version(raw.get("since", "3.11"))
        self.command = raw.get("command")
        self.shell = raw.get("shell")
        self.stdio = raw.get("stdio", {})
        self.hide_log = raw.get("log") == "hidden"
        self.loose_errors = raw.get("loose_errors", False)

    def runs_here(self):
        """Tell whether this interpreter is new enough for the golden trace."""
        return sys.version_info[:2] >= self.since

    @property
    def small_buffers(self):
        return self.options.get("buffers") == "small"

    def trace_path(self):
        return self.path.with_suffix(".trace")


def _version(text):
    major, minor = text.split(".")
    return int(major), int(minor)


def _check(raw, path):
    for key in raw:
        if key not in KEYS:
            raise ScenarioError(f"{path}: unknown key {key!r}")
    for key in raw.get("options", {}):
        if key not in OPTIONS:
            raise ScenarioError(f"{path}: unknown option {key!r}")
    if raw.get("kind") not in KINDS:
        raise ScenarioError(f"{path}: kind must be one of {sorted(KINDS)}")
    if raw.get("role", "client") not in ROLES:
        raise ScenarioError(f"{path}: role must be one of {sorted(ROLES)}")
    if not raw.get("ids"):
        raise ScenarioError(f"{path}: ids must name what the scenario shows")


def load(path, root):
    """Read one file; its name is its path below root without the suffix."""
    with open(path, encoding="utf-8") as f:
        raw = json.load(f)
    name = path.relative_to(root).with_suffix("").as_posix()
    return Scenario(name, path, raw)


def discover(where):
    """Return the scenarios of a file or of a directory, in name order."""
    where = pathlib.Path(where)
    if where.is_file():
        return [load(where, where.parent)]
    return [load(p, where) for p in sorted(where.rglob("*.json"))]


def find_certificates(path):
    """Look for tls/ca.pem from path's directory upwards, then from here."""
    here = pathlib.Path(__file__).resolve()
    for start in (path.resolve(), pathlib.Path.cwd() / "x", here):
        for parent in start.parents:
            for below in ("tls", "testdata/conformance/tls"):
                if (parent / below / "ca.pem").is_file():
                    return parent / below
    raise ScenarioError(f"{path}: no tls/ca.pem above it")
