#!/usr/bin/env python3
"""Run scenarios under CPython's asyncio and write or compare their traces.

    oracle.py PATH...            print the traces
    oracle.py --record PATH...   write each NAME.trace beside its NAME.json
    oracle.py --check PATH...    compare with them; exit 1 on a difference

README.md beside this file describes scenarios and traces.
"""

import argparse
import difflib
import logging
import pathlib
import platform
import sys

from pyoracle.run import run
from pyoracle.scenario import discover


def main(argv):
    args = _arguments(argv)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    failed = ran = skipped = 0
    for path in args.paths:
        for scenario in discover(path):
            if args.only and args.only not in scenario.name:
                continue
            if not scenario.runs_here():
                skipped += 1
                continue
            ran += 1
            failed += not _several(scenario, args)
    print(f"{ran} scenarios, {failed} failed, {skipped} need a newer Python; "
          f"CPython {platform.python_version()}", file=sys.stderr)
    return 1 if failed else 0


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="+", type=pathlib.Path)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", help="only scenarios whose name contains this")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--chunks", help="one, or random:SEED: cut what peers send")
    parser.add_argument("--timeout", type=float, default=10.0)
    return parser.parse_args(argv)


def _several(scenario, args):
    try:
        first = run(scenario, args.timeout, args.chunks)
        for _ in range(args.repeat - 1):
            again = run(scenario, args.timeout, args.chunks)
            if again != first:
                return _differs(scenario.name, first, again, "unstable")
    except Exception as exc:
        print(f"== {scenario.name}\nFAILED {type(exc).__name__}: {exc}")
        return False
    return _deliver(scenario, first, args)


def _deliver(scenario, text, args):
    path = scenario.trace_path()
    if args.record:
        path.write_text(text, encoding="utf-8")
    elif args.check and not path.exists():
        print(f"== {scenario.name}: no golden trace")
        return False
    elif args.check:
        golden = path.read_text(encoding="utf-8")
        if golden != text:
            return _differs(scenario.name, golden, text, "differs from golden")
    else:
        print(f"== {scenario.name}\n{text}", end="")
    return True


def _differs(name, want, got, how):
    print(f"== {name}: {how}")
    lines = difflib.unified_diff(
        want.splitlines(), got.splitlines(), "want", "got", lineterm="")
    print("\n".join(lines))
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
