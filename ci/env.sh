# Sourced by the scripts beside it: strict mode, and the repository's root as
# the working directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

staticcheck_version=v0.8.2
govulncheck_version=v1.9.0

# nested prints the directories of the modules below the root's.
nested() { git ls-files -- '*/go.mod' | xargs -rn1 dirname; }

# tool IMPORT_PATH VERSION prints the path of a command, which it builds once
# for each version of it and of Go.
tool() {
  local dir
  dir=$PWD/.cache/bin/$(basename "$1")-$2-$(go env GOVERSION)
  [[ -x $dir/$(basename "$1") ]] || GOFLAGS='' GOBIN=$dir go install "$1@$2" >&2
  echo "$dir/$(basename "$1")"
}
