"""Trainings: run folders, options, progress, tracking, memory estimates, comparison and ablation of runs."""

if __name__ != "heed.training":
    # A bare `training` would collide with other people's packages of that name.
    raise ImportError("This folder is Heed's `heed.training` package: import `heed.training`, not `training`.")
