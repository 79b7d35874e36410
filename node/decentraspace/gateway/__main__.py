"""`python -m decentraspace.gateway`: what the node starts as its child, and that one as its workers."""

import sys

from decentraspace.gateway.workers import main, work

if __name__ == "__main__":
    sys.exit(work(int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 1 else main())
