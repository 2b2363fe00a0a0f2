#!/usr/bin/env bash
# usage: ci/vuln.sh
# govulncheck: known vulnerabilities in what the module and the nested ones
# call. It is skipped where the database cannot be reached.
source "$(dirname "$0")/env.sh"

database=https://vuln.go.dev
if ! curl -fsS --max-time 10 -o /dev/null "$database/index/db.json"; then
  echo "skipped: $database cannot be reached"
  exit 0
fi
govulncheck=$(tool golang.org/x/vuln/cmd/govulncheck "$govulncheck_version")
for dir in . $(nested); do
  "$govulncheck" -C "$dir" -db "$database" ./...
done
