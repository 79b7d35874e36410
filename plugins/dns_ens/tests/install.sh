#!/usr/bin/env bash
# Installs ENS's own contracts, as their authors compiled them, for the plugin's tests. Does nothing if they are there.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)/ens"
stamp="$here/node_modules/.installed"

if [ -e "$stamp" ] && cmp -s "$here/package-lock.json" "$stamp"; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "ENS's contracts are not installed: npm is missing (the tests that need them will be skipped)." >&2
    [ "${DECENTRASPACE_REQUIRE_REAL:-}" = 1 ] && exit 1
    exit 0
fi
echo "Installing ENS's contracts …"
(cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
cp "$here/package-lock.json" "$stamp"
