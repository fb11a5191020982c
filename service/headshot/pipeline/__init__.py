"""What a headshot is: stages, sampler, candidates, verification, quality."""
