"""Runs: a recipe trained, evaluated and kept in a folder.

In goes a recipe; out comes a run folder that any later command finds, resumes, samples or evaluates. Read `running`
first (a run from its beginning to its end), then `planning` (which run it is) and `store` (what a folder holds).
"""
