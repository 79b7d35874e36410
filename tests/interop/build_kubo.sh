#!/usr/bin/env bash
# Builds the real Kubo into .tools/bin/ipfs, for the tests that compare with it. Does nothing if it is there.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
target="$here/../../.tools/bin/ipfs"
version="$(sed -n 's/.*github.com\/ipfs\/kubo v\([0-9.]*\).*/\1/p' "$here/kubo/go.mod" | head -n 1)"

if [ -x "$target" ] && "$target" version --number | grep -qx "$version"; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "Kubo is not built: Go is not installed (the tests that need it will be skipped)." >&2
    [ "${DECENTRASPACE_REQUIRE_REAL:-}" = 1 ] && exit 1
    exit 0
fi
echo "Building Kubo $version (some minutes the first time) …"
mkdir -p "$(dirname "$target")"
(cd "$here/kubo" && go build -trimpath -o "$target" github.com/ipfs/kubo/cmd/ipfs)
