"""The one hierarchy of errors; a message names file, line and section wherever there is one."""


class DarknetError(Exception):
    """Wrong input: commands print it as one line and exit with 2."""


class CfgError(DarknetError):
    """A cfg that can't be read, built or run."""


class WeightsError(DarknetError):
    """A file of weights that doesn't fit its cfg, or can't be used."""


class TrainingError(DarknetError):
    """A training that can't start, or can't continue."""


class PlanError(DarknetError):
    """A pruning plan, or a request for one, that doesn't fit the network."""


class ProofError(DarknetError):
    """A cut whose result doesn't compute what the report says: commands exit with 1."""


class DataError(DarknetError):
    """Images, labels or lists that can't be used."""
