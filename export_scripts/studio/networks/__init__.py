"""Network definitions of the studio profile, keyed like the public checkpoints they load."""
