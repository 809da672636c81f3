"""The kernel: from installed distributions and a TOML file to checked components.

In go a recipe's name, overrides and swaps; out come a `Recipe` of frozen components, and the id of its run. Nothing
here imports torch. Read `discovery` first (which plugins are there), then `registry` (what they offer), `resolving`
(tables to components, every problem at once) and `loading` (how the parts make a recipe).
"""
