"""Recipes of genkit-lab-student-t."""
