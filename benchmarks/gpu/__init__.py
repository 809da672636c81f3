"""The stages of `gpu_day.py`: what must be right on a card, what a step costs there, and what a card is used for."""
