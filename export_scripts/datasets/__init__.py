"""Preparation of training and test data from clones of public repositories."""
