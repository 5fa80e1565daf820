"""``python -m mcmt``: the command line."""

from mcmt.cli import main

if __name__ == "__main__":
    main()
