import hashlib
from pathlib import Path

import attrs
import numpy as np
import torch
from datasets import load_dataset

from genkit.data import Resident
from genkit.errors import DataError
from genkit.kinds import Spec, setting


@attrs.frozen(kw_only=True)
class HfDataset:
    """Images of a data set of Hugging Face, by its name on the hub or in a folder."""

    name: str = setting(help='on the hub, "ylecun/mnist", or a folder, which may start from the recipe')
    revision: str = setting("main", "branch, tag or commit on the hub; only a commit stays what it is")
    train: str = setting("train", "the split that is learnt")
    held_out: str = setting("test", "the split that is held out; empty: none")
    image: str = setting("image", "the column of images")
    label: str = setting("", "the column of classes; empty: unconditional")
    flip: bool = setting(False, "mirror half of the training images")

    def build(self, setup):
        held_out = self._split(self.held_out, setup) if self.held_out else None
        return self._split(self.train, setup, held_out)

    def _split(self, split, setup, held_out=None):
        folder = (setup.folder or Path()) / self.name
        cache = str(setup.cache_dir / "huggingface") if setup.cache_dir else None
        try:
            rows = load_dataset(
                str(folder) if folder.is_dir() else self.name, split=split, revision=self.revision, cache_dir=cache
            )
            pictures = [np.asarray(picture) for picture in rows[self.image]]
        except Exception as error:  # of another library, which has many
            raise DataError("dataset", f"{self.name}, {split}: {error}", "see dataset.name and its columns") from error
        shapes = {picture.shape for picture in pictures}
        if len(shapes) != 1:
            raise DataError("dataset", f"{split} has images of shapes {sorted(shapes)[:3]}", "make them of one size")
        images = np.stack(pictures)
        x = torch.from_numpy(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2).copy())
        cond, classes, digest = {}, 0, hashlib.sha256(x.numpy().tobytes())
        if self.label:
            cond["label"] = torch.tensor(rows[self.label], dtype=torch.int64)
            classes = rows.features[self.label].num_classes
            digest.update(cond["label"].numpy().tobytes())
        spec = Spec(channels=x.shape[1], height=x.shape[2], width=x.shape[3], classes=classes, flip=self.flip)
        cond = {name: values.to(setup.device) for name, values in cond.items()}
        identity = digest.hexdigest()
        return Resident(x=x.to(setup.device), spec=spec, identity=identity, cond=cond, held_out=held_out)
