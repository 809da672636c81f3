"""Recipes of genkit-lab-api-1."""
