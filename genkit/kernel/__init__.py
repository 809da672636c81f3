"""The kernel: from installed distributions and a TOML file to checked components.

In go a recipe's name, overrides and swaps; out come a `Recipe` of frozen components, and the id of its run. Nothing
here imports torch. Read `discovery` first (which plugins are there), then `registry` (what they offer), `resolving`
(tables to components, every problem at once) and `loading`, which puts it all together: `toml` reads one file, `tables`
lays files and overrides over each other, `values` holds settings against their types, `identity` names the run.
"""
