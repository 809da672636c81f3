"""Recipes of genkit-lab-diffusers-unet."""
