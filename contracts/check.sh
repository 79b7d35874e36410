#!/usr/bin/env bash
# Everything that contracts/ must pass. `check.sh quick` leaves out what takes long: invariants and Slither.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PWD/node_modules/.bin:$PATH"

if ! [ -d node_modules ] || ! command -v forge >/dev/null; then
    echo "forge is not here: run contracts/install.sh, which needs npm (and has forge for Linux on x86-64 alone)." >&2
    exit 2
fi
forge fmt --check
forge build --quiet
python3 bin/artifacts.py --check
rm -rf cache/snapshots
if [ "${1:-}" = quick ]; then
    forge test --no-match-path 'test/invariant/*'
else
    forge test
fi
if ! diff -ru snapshots cache/snapshots; then
    echo "Calls cost other gas than snapshots/ says. If that is meant: cp contracts/cache/snapshots/* contracts/snapshots/" >&2
    exit 1
fi
[ "${1:-}" = quick ] && exit 0

# Apart, so that it sees the sources alone; afresh, for it reads what every earlier build left there.
rm -rf cache/slither
FOUNDRY_OUT=cache/slither FOUNDRY_CACHE_PATH=cache/slither forge build --quiet --build-info --skip test --skip script
../.tools/slither/bin/slither . --ignore-compile --foundry-out-directory cache/slither --fail-pedantic 2>cache/slither.log \
    || { cat cache/slither.log; exit 1; }
tail -n 1 cache/slither.log
