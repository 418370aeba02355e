"""The command line: train, evaluate, play and check from a terminal."""

if __name__ != "heed.scripts":
    # A bare `scripts` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.scripts` package: import `heed.scripts`, not `scripts`.")
