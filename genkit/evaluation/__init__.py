"""Evaluation: figures and pictures of samples, whoever drew them.

In go a denoiser, or samples of others, with a data set or reference statistics; out come figures with all that they
depend on. Read `measuring` first (a model's figures), then `scoring` (metrics beside the real images) and `sampling`.
"""
