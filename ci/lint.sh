#!/usr/bin/env bash
# usage: ci/lint.sh
# go vet, staticcheck, and whether go.mod says what the sources need.
source "$(dirname "$0")/env.sh"

go vet ./...
"$(tool honnef.co/go/tools/cmd/staticcheck "$staticcheck_version")" ./...
go mod tidy -diff
for dir in $(nested); do
  go -C "$dir" vet ./...
done
