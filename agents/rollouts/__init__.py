"""What belongs to a rollout: running episodes, groups, lost steps, reward scaling, gradients in parts."""
