#!/usr/bin/env bash
# Installs Helia, an IPFS client in JavaScript, for the tests that fetch with it. Does nothing if it is there.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)/helia"
stamp="$here/node_modules/.installed"

if [ -e "$stamp" ] && cmp -s "$here/package-lock.json" "$stamp"; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "Helia is not installed: npm is missing (the tests that need it will be skipped)." >&2
    [ "${DECENTRASPACE_REQUIRE_REAL:-}" = 1 ] && exit 1
    exit 0
fi
echo "Installing Helia …"
(cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
cp "$here/package-lock.json" "$stamp"
