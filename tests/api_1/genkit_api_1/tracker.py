import attrs


@attrs.frozen(kw_only=True)
class Api1Tracker:
    """The loss as a file of comma-separated values."""

    def open(self, run):
        return Api1TrackerSession((run.folder / "loss.csv").open("a"))


@attrs.frozen
class Api1TrackerSession:
    file: object

    def scalars(self, k, figures):
        if "loss" in figures:
            self.file.write(f"{k},{figures['loss']}\n")

    def images(self, k, name, picture):
        pass

    def close(self, outcome):
        self.file.close()
