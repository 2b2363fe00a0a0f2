#!/usr/bin/env bash
# usage: ci/fuzz.sh [time]
# Fuzzes every target of every package in turn, for 10s each or the time given.
source "$(dirname "$0")/env.sh"

dirs=$(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -rn1 dirname | sort -u) || true # none is no error
for dir in $dirs; do
  listed=$(go -C "$dir" test -list='^Fuzz' .)
  for target in $(grep '^Fuzz' <<<"$listed"); do
    echo "$dir $target"
    go -C "$dir" test -run='^$' -fuzz="^$target\$" -fuzztime="${1:-10s}" .
  done
done
