"""Classes of one's own without a package: of a notebook, of a script, or of a file that a recipe names."""

import re

from genkit.hookspecs import hookimpl

GENKIT_API = 1


@hookimpl
def genkit_find(kind, use, where, folder, by_hand):  # type: ignore[no-untyped-def]
    if not re.fullmatch(r"(?s).+\.py:\w+", use):
        return None
    from genkit_own import files

    return files.find(kind, use, folder, where, by_hand)


@hookimpl
def genkit_recipe_kept(path, recipe):  # type: ignore[no-untyped-def]
    from genkit_own import files

    files.keep(path.parent, recipe)
