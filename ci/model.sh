#!/usr/bin/env bash
# usage: ci/model.sh [operations]
# Random operations against the model of the laws: 1,000,000, or the number
# given, with a new seed, which is printed if something is wrong.
source "$(dirname "$0")/env.sh"

go test -timeout 1h -run '^TestModel' ./strandtest -args -strandtest.ops="${1:-1000000}"
