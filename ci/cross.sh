#!/usr/bin/env bash
# usage: ci/cross.sh [GOOS/GOARCH ...]
# Builds and vets for other systems; their tests are built, not run.
source "$(dirname "$0")/env.sh"

[[ $# -gt 0 ]] || set -- linux/arm64 linux/386 darwin/arm64 windows/amd64 freebsd/amd64
export CGO_ENABLED=0
for platform; do
  echo "$platform"
  export GOOS=${platform%/*} GOARCH=${platform#*/}
  go build ./...
  go vet ./...
done
