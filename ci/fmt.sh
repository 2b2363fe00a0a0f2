#!/usr/bin/env bash
# usage: ci/fmt.sh [-w]
# Fails if gofmt would change a file, and names it; with -w changes it.
source "$(dirname "$0")/env.sh"

if [[ ${1:-} == -w ]]; then
  exec gofmt -l -w .
fi
changed=$(gofmt -l .)
if [[ $changed ]]; then
  printf 'gofmt would change:\n%s\n' "$changed" >&2
  exit 1
fi
