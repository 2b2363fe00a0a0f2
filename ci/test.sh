#!/usr/bin/env bash
# usage: ci/test.sh [go test argument ...]
# Runs the tests with the race detector, as the README says. Without arguments
# it goes on:
#   - the tests in which goroutines meet, some more times;
#   - the root, internal and streams packages without the race detector: only
#     then the raw system calls are compiled in and allocations counted. The
#     root package has to be covered to coverage_floor per cent;
#   - the tests of the nested modules.
source "$(dirname "$0")/env.sh"

coverage_floor=90

go test -race ./... "$@"
[[ $# -eq 0 ]] || exit 0

go test -race -count=5 -run='Race|Concurren|Turn|Seal|Posted|Enter' . ./streams

profile=$(mktemp)
trap 'rm -f "$profile"' EXIT
go test -coverprofile="$profile" .
go test ./internal/... ./streams
covered=$(go tool cover -func="$profile" | awk '$1 == "total:" { print $3 + 0 }')
echo "root package: $covered % of statements covered, $coverage_floor wanted"
awk -v a="$covered" -v b="$coverage_floor" 'BEGIN { exit !(a >= b) }'

for dir in $(nested); do
  go -C "$dir" test ./...
done
