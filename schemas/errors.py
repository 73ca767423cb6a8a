"""The errors a user can mend: each says what is wrong, where, and the way out. The command line exits 2."""


class StillroomError(Exception):
    """Base of every error that is the input's or the machine's, not the program's."""

    harmless = False  # whether the process in which it was raised goes on as if nothing had been


class ConfigError(StillroomError):
    """A config file cannot be read, or says something that cannot be."""


class CorpusError(StillroomError):
    """A corpus file is missing, malformed, ambiguous or empty."""


class ModelError(StillroomError):
    """A model folder cannot be loaded, or the model cannot give what was asked of it."""


class TokenizerError(StillroomError):
    """A tokenizer cannot be loaded, is a slow one, or does not give usable character offsets."""


class AnnotatorError(StillroomError):
    """A span annotator is unknown, not installed, or lacks the components it needs."""


class CacheError(StillroomError):
    """A cache is missing, incomplete, damaged, of an unknown format, or not the one that was asked for."""


class PairingError(StillroomError):
    """Teacher states and student tokens do not belong to the same text. Training on them would be silently wrong."""


class RunError(StillroomError):
    """A training run cannot start, go on or be resumed: its folder, its objective or its data forbid it."""


class ResourceError(StillroomError):
    """The machine or cluster lacks what was asked for: processors, GPUs, disk space, a reachable Ray address."""


class StorageError(StillroomError):
    """A storage under a URL cannot be reached, or refuses what was asked of it."""


def kind_of(error: BaseException) -> str:
    """The name of the class of this module that `error` is of; RunError for an error of the program."""
    of_ours = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == __name__)
    return next(of_ours, RunError.__name__)


def error_of(kind: str, words: str) -> StillroomError:
    """The error that another process told by its `kind`, as `kind_of` names it, and its `words`."""
    kinds = {subclass.__name__: subclass for subclass in StillroomError.__subclasses__()}
    return kinds.get(kind, RunError)(words)
