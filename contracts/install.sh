#!/usr/bin/env bash
# Installs what contracts/ is built, tested and analysed with: forge, anvil and solc from npm into node_modules,
# Slither from PyPI into .tools/slither. Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")"
slither=../.tools/slither

if ! cmp -s package-lock.json node_modules/.installed; then
    if ! command -v npm >/dev/null; then
        echo "forge, anvil and solc are not installed: npm is missing (the tests that need them will be skipped)." >&2
        [ "${DECENTRASPACE_REQUIRE_REAL:-}" = 1 ] && exit 1
        exit 0
    fi
    echo "Installing forge, anvil and solc …"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.installed
fi

if ! cmp -s slither.txt "$slither/.installed"; then
    echo "Installing Slither …"
    rm -rf "$slither"
    mkdir -p ../.tools
    "${PYTHON:-python3}" -m venv "$slither"
    "$slither/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r slither.txt
    cp slither.txt "$slither/.installed"
fi
