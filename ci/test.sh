#!/usr/bin/env bash
# usage: ci/test.sh [go test argument ...]
# Runs the tests with the race detector, as the README says, and then those of
# the nested modules. With arguments it runs only the first, with them.
source "$(dirname "$0")/env.sh"

go test -race ./... "$@"
if [[ $# -eq 0 ]]; then
  for dir in $(nested); do
    go -C "$dir" test ./...
  done
fi
