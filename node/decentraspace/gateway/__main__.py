"""`python -m decentraspace.gateway`: what the node starts as its child."""

from decentraspace.gateway.process import main

if __name__ == "__main__":
    main()
