"""How networks are told of augmentation, and what they start from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genkit.kinds import Context


class Adapting(nn.Module):
    """A network that starts from weights with or without the layer for `cond["augment"]`, whichever it has itself.

    The layer has no bias and samples are drawn without augmentation, so that neither changes what is sampled. A network
    of several times also starts from weights of one: what it is told of the others has no effect until it learns.
    """

    def adapted(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Weights to start from, without the layer or with zeros for it, and a line that says so."""
        mine = {name: t for name, t in self.state_dict().items() if name.endswith(".augment.weight")}
        rest = {name: t for name, t in state.items() if name in mine or not name.endswith(".augment.weight")}
        lines = ["what it learnt of augmentation is left out, as the data are not augmented"] * (len(rest) < len(state))
        lines += ["it knows nothing of augmentation: the layer starts at zero"] * (not mine.keys() <= rest.keys())
        rest = {**{name: torch.zeros_like(t) for name, t in mine.items()}, **rest}
        grown = self._grown(rest)
        return rest | grown, lines + ["it knows one time: of others it is told with weight zero"] * bool(grown)

    def _grown(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a network of one time, what is longer here by the times: the numbers of the first, then zeros."""
        times, grown = max(getattr(module, "times", 1) for module in self.modules()), {}
        for name, mine in self.state_dict().items() if times > 1 else ():
            t = state.get(name, mine)
            if any(mine.shape == (*t.shape[:i], times * t.shape[i], *t.shape[i + 1 :]) for i in range(t.ndim)):
                grown[name] = torch.zeros_like(mine)
                grown[name][tuple(map(slice, t.shape))] = t
        return grown


def listener(context: Context, width: int) -> nn.Linear | None:
    """A layer for what `cond["augment"]` says, which starts at zero; None where it will say nothing."""
    if not context.spec.augment:
        return None
    layer = nn.Linear(context.spec.augment, width, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def told(emb: Tensor, layer: nn.Linear | None, cond: Mapping[str, Tensor]) -> Tensor:
    """An embedding with what `cond["augment"]` says, if it is there and there is a layer for it."""
    if layer is None or "augment" not in cond:
        return emb
    return emb + layer(cond["augment"].to(layer.weight.dtype))
