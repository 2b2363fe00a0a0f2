// Package conformance runs the scenarios of testdata/conformance against
// strand and compares what happens with the traces recorded from CPython's
// asyncio. README.md beside this file describes scenarios and traces; the
// oracle that records them is oracle.py.
//
// One run is a [Run]: a board of counters that everybody posts to and waits
// for, a trace with a section for each actor, peers that walk through their
// steps on blocking sockets, and connections whose protocols react as the
// scenario says. It uses the public API of strand only.
package conformance
