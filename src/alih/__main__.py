"""`python -m alih` is the command `alih`."""

from alih.cli import main

if __name__ == "__main__":
    main()
