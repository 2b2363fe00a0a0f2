#!/usr/bin/env bash
# usage: ci/bench.sh [go test argument ...]
# Runs the benchmarks, by default ten times each, in the form that benchstat
# reads: ci/bench.sh >new.txt
source "$(dirname "$0")/env.sh"

[[ $# -gt 0 ]] || set -- -count=10
exec go test -run='^$' -bench=. -benchmem "$@" ./...
