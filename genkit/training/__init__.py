"""Training: the state that a step changes, the step, and what keeps both.

In go a program and batches; out come a changed state after each step, and checkpoints that a kill cannot harm. Read
`step` first, then `state` and `checkpoint`; `processes` makes several processes one.
"""
