"""`python -m decentraspace` is the command line."""

from decentraspace.cli.main import main

if __name__ == "__main__":
    main()
