"""Ray: jobs by the REST interface of Ray Jobs.

Read `launcher`: what can be set, and what the cluster is asked.
"""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_launcher() -> Offer:
    return {"ray": lazy("genkit_ray.launcher:Ray", "Jobs of a Ray cluster.")}
