"""The same as the console script: ``python -m fedsim.cli``."""

from fedsim.cli import main

if __name__ == "__main__":
    main()
