"""What a machine can cause, told in words: whoever runs something for a user tells it so, and shows no traceback."""

from schemas.storage.atomic import DISK_FULL

MEMORY = "memory ran out; give it smaller batches, fewer workers or a larger machine"


def describe_failure(error: BaseException) -> str | None:
    """What went wrong and the way out, where memory or storage failed; None for any other error.

    torch, which is not imported for this, has an error of its own for the memory of a GPU that it manages. All else
    says in words that there was none: torch on a CPU, Triton, and libraries of CUDA.
    """
    if isinstance(error, MemoryError) or _is_of_torch(error):
        return MEMORY
    return _of_storage(error) if isinstance(error, OSError) else None


def memory_failed(error: BaseException | None) -> bool:
    """Whether it did, wherever in the chain of errors that ends in `error`."""
    while error is not None:
        if describe_failure(error) == MEMORY:
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_torch(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    told = str(error)
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in told or "out of memory" in told


def _of_storage(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    where = f" {error.filename}" if error.filename is not None else ""
    if error.errno in DISK_FULL:
        place = where or " the output, or temporary files (TMPDIR)"
        return f"no space left to write{place} ({reason}); make room and run the same command again"
    return f"cannot read or write{where}: {reason}"
