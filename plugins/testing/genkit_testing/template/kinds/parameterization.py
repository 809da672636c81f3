import attrs

from genkit.denoiser import Scalings


@attrs.frozen(kw_only=True)
class Example:
    """EDM's scalings.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """

    def build(self, context):
        d = context.spec.sigma_data

        def scale(sigma, to=None):
            norm = (sigma**2 + d**2).sqrt()
            return Scalings(d**2 / norm**2, sigma * d / norm, 1 / norm, sigma.log() / 4)

        return scale
