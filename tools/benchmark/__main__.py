"""`python -m tools.benchmark`."""

from tools.benchmark.command import main

if __name__ == "__main__":
    main()
