#!/usr/bin/env bash
# usage: ci/fuzz.sh [time|countx]
# Fuzzes every target of every package in turn: for the time given (1m), for
# the number of inputs given (1000x), or by default for a number of inputs that
# takes some ten seconds.
source "$(dirname "$0")/env.sh"

# The default is a number because go1.26's fuzzing coordinator now and then
# reports the end of a time as the target's failure, "context deadline
# exceeded" (go.dev/issue/75804, mended in go1.27).
count() {
  case "$1" in
    FuzzTLSCuts | FuzzStartTLSBoundary) echo 1000x ;; # handshakes over real sockets
    *) echo 20000x ;;
  esac
}

dirs=$(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -rn1 dirname | sort -u) || true # none is no error
for dir in $dirs; do
  listed=$(go -C "$dir" test -list='^Fuzz' .)
  for target in $(grep '^Fuzz' <<<"$listed"); do
    echo "$dir $target"
    # What makes an input interesting need not be as small as can be: by default
    # minute upon minute may go by with that, and not count.
    go -C "$dir" test -run='^$' -fuzz="^$target\$" -fuzztime="${1:-$(count "$target")}" -fuzzminimizetime=100x .
  done
done
