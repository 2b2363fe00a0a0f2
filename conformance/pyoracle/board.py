"""The board: counters that scripts and callbacks post to and wait for.

Every wait of a scenario is a wait for a counter, so its order is decided by
what happened and never by how long something took.
"""

import asyncio
import threading
import time

CALLBACKS = {
    "made", "data", "eof", "pause", "resume", "lost", "dgram", "error", "exited",
    "tls", "tls_failed", "sendfile", "fd0", "fd1", "fd2", "fd0_lost", "fd1_lost",
    "fd2_lost",
}


class Stuck(Exception):
    """A wait that did not end: the scenario or the implementation is wrong."""


def parse(token):
    """Split NAME[:COUNT]; a bare callback name means the first connection."""
    name, _, count = token.partition(":")
    if name in CALLBACKS:
        name = "c0." + name
    return name, int(count or 1)


class Board:
    def __init__(self, loop, timeout):
        self._loop = loop
        self._timeout = timeout
        self._counts = {}
        self._cond = threading.Condition()
        self._tick = asyncio.Event()
        self._failure = None

    def post(self, key, n=1):
        """Add n to a counter and wake everybody who waits. Any thread."""
        with self._cond:
            self._counts[key] = self._counts.get(key, 0) + n
            self._cond.notify_all()
        self._wake_loop()

    def fail(self, failure):
        """Release every waiter with Stuck: one actor failed. Any thread."""
        with self._cond:
            self._failure = self._failure or failure
            self._cond.notify_all()
        self._wake_loop()

    def wait(self, token):
        """Block the calling thread; in a callback that holds up the loop."""
        key, need = parse(token)
        with self._cond:
            if not self._cond.wait_for(lambda: self._ready(key, need), self._timeout):
                raise Stuck(self._describe(token))
            self._check()

    async def wait_async(self, token):
        """Wait on the loop, which goes on running callbacks."""
        key, need = parse(token)
        deadline = time.monotonic() + self._timeout
        while not self._ready(key, need):
            self._tick.clear()
            left = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self._tick.wait(), max(left, 0))
            except (asyncio.TimeoutError, TimeoutError):
                raise Stuck(self._describe(token)) from None
        self._check()

    def count(self, key):
        return self._counts.get(key, 0)

    def _ready(self, key, need):
        return self._failure is not None or self._counts.get(key, 0) >= need

    def _check(self):
        if self._failure is not None:
            raise Stuck(f"released: {self._failure}")

    def _describe(self, token):
        return f"waited for {token!r}; seen {dict(sorted(self._counts.items()))}"

    def _wake_loop(self):
        try:
            self._loop.call_soon_threadsafe(self._tick.set)
        except RuntimeError:
            pass  # The loop has ended: nobody waits on it any more.
