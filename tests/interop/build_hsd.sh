#!/usr/bin/env bash
# Installs hsd, the Handshake node, for the tests of plugins/dns_handshake. Does nothing if it is there.
# Its compiled parts are built here: a C++ compiler, Python, and Unbound's headers (libunbound-dev) are needed.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)/hsd"
stamp="$here/node_modules/.installed"

if [ -e "$stamp" ] && cmp -s "$here/package-lock.json" "$stamp"; then
    exit 0
fi
refuse() {
    echo "hsd is not installed: $1 (the tests that need it will be skipped)." >&2
    [ "${DECENTRASPACE_REQUIRE_REAL:-}" = 1 ] && exit 1
    exit 0
}
command -v npm >/dev/null || refuse "npm is missing"
command -v c++ >/dev/null || refuse "a C++ compiler is missing (apt-get install g++)"
echo '#include <unbound.h>' | c++ -x c++ -fsyntax-only - 2>/dev/null ||
    refuse "Unbound's headers are missing (apt-get install libunbound-dev)"
echo "Installing hsd … (about a minute)"
# Node.js's own headers, where they are on the machine: they are fetched else.
prefix="$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")"
[ -e "$prefix/include/node/node.h" ] && export npm_config_nodedir="$prefix"
cd "$here"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
npm rebuild --no-audit --no-fund --loglevel=error >/dev/null
# Without it hsd would fall back, silently, to a resolver of its own.
ls node_modules/unbound/build/Release/*.node >/dev/null
cp package-lock.json "$stamp"
