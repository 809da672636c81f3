"""Recipes of genkit-lab-hf-datasets."""
