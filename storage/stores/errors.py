"""What goes wrong with bytes, in one line that names the address: the file is at fault, or the place is.

The difference decides what a run does. A file that cannot be read is a failed sample, and the run goes on. A place
that is out of reach, full, or closed to us says nothing of any file: no sample is written off for it, and the run
stops, to be run again.
"""

import errno
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from storage.stores.addresses import cleaned

if TYPE_CHECKING:
    from tenacity import RetryCallState

Out = TypeVar("Out")
logger = logging.getLogger(__name__)
Kinds = tuple[type[Any], ...]

CLOSED = frozenset(
    {
        "AccountProblem",
        "AllAccessDisabled",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "NoSuchBucket",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "Unauthorized",
    }
)
"""What S3 servers answer to keys that are wrong, or no longer right, and where the bucket is gone."""
OF_THE_FILE = ("AccessDenied", "InvalidObjectState", "403")
"""Refusals that may concern one object alone; a HEAD request is told no more than 403."""
BUSY = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalError",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
        "BadDigest",
        "IncompleteBody",
    }
)
"""What they answer when the same request may well succeed a little later."""
FULL_OR_CLOSED = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,  # a limit on the size of files: of the disk's kind (FAT: 4 GB), or of the process (ulimit -f)
        errno.EROFS,
        errno.EIO,
        errno.EUCLEAN,
        errno.ENOMEDIUM,
        errno.ENOKEY,
        errno.EREMOTEIO,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOLCK,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
"""What disks answer that say nothing of the file at hand."""


def _errors_of(module: str, *names: str) -> Kinds:
    """Errors of a library. There are none where it is not imported, as nobody has raised them.

    The libraries of remote stores take half a second to import, and local files need none of them. One that another
    thread imports just now has some of its names, and has raised none of its errors.
    """
    loaded = vars(sys.modules[module]) if module in sys.modules else {}
    return tuple(loaded[name] for name in names if name in loaded)


def aws_errors(*names: str) -> Kinds:
    """Errors of botocore, by their names there."""
    return _errors_of("botocore.exceptions", *names)


def _web(*names: str) -> Kinds:
    return _errors_of("aiohttp", *names)


def _hub(*names: str) -> Kinds:
    return _errors_of("huggingface_hub.errors", *names)


def _network() -> Kinds:
    """What says that the network is in trouble."""
    return (
        *aws_errors("HTTPClientError", "ConnectionError", "IncompleteReadError"),
        *_errors_of("botocore.parsers", "ResponseParserError"),
        *_web("ClientError"),
        *_hub("HTTPError"),
        *_errors_of("http.client", "HTTPException"),
        *_errors_of("asyncio", "IncompleteReadError"),
        *(ConnectionError, TimeoutError),
    )


def _not_passing() -> Kinds:
    """What looks like trouble with the network, and stays as it is however often one tries."""
    return (*_web("InvalidURL", "ClientSSLError"), *_hub("OfflineModeIsEnabled"))


def failures() -> Kinds:
    """What file systems raise."""
    return (
        *(OSError, EOFError, ImportError, ValueError, TypeError, RuntimeError),
        *aws_errors("ClientError", "BotoCoreError"),
        *_errors_of("botocore.parsers", "ResponseParserError"),
        *_web("ClientError"),
        *_hub("HTTPError"),
        *_errors_of("http.client", "HTTPException"),
    )


NO_ACCESS = frozenset({401, 407})
PASSING_STATUS, LASTING_STATUS = frozenset({408, 425, 429}), frozenset({501, 505})
"""Of HTTP: to whom we are, refusals that may pass, and failures of a server that do not."""
PACKAGE = re.compile(r"""(?:install|requires?) (?:the )?["']?(?!to\b)([a-z][\w-]*)""", re.IGNORECASE)
"""How fsspec names what a kind of address wants installed."""

PATIENCE, IMPATIENCE = 120.0, 10.0
"""Seconds for which a place that has answered before, or never has, is tried again."""
FIRST_WAIT, MAX_WAIT = 0.2, 10.0


class StorageError(OSError):
    """Bytes that cannot be read or written, in one line: where, and why."""


class ChangedError(StorageError):
    """A file that is not, or no longer, what the listing said of it."""


class UnavailableError(StorageError):
    """A place that is out of reach, full or closed to us: nothing is known of the file that was asked for."""


class DamagedError(OSError):
    """Bytes that came short or changed, though the answer was whole; worth another try."""


def _damaged() -> Kinds:
    return (DamagedError, *aws_errors("ChecksumError", "FlexibleChecksumError"))


@contextmanager
def translating_errors(address: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the address."""
    try:
        yield
    except ChangedError as error:
        raise ChangedError(f"{address}: {error}") from error
    except StorageError:
        raise
    except failures() as error:
        raise in_one_line(address, error) from error


def in_one_line(address: str, error: BaseException) -> StorageError:
    """The error that tells of `error`, and whose fault it is."""
    kind = UnavailableError if is_of_the_place(error) else StorageError
    return kind(cleaned(f"{address}: {_reason(error)}"))


def retried(do: Callable[[], Out], patience: float = PATIENCE) -> Out:
    """What `do` returns; after what may pass it is tried again, with growing waits drawn at random, for so long.

    A file that comes damaged again and again is as it is: it is given up earlier.
    """

    from tenacity import Retrying, retry_if_exception, wait_random_exponential

    def enough(state: "RetryCallState") -> bool:
        error = state.outcome and state.outcome.exception()
        limit = IMPATIENCE if error and _has(error, _damaged()) else patience
        return (state.seconds_since_start or 0.0) >= limit

    def say(state: "RetryCallState") -> None:
        error = state.outcome and state.outcome.exception()
        wait = state.next_action.sleep if state.next_action else 0.0
        logger.info("attempt %d failed, the next in %.1f s: %s", state.attempt_number, wait, cleaned(_reason(error)))

    again = Retrying(
        retry=retry_if_exception(may_pass),
        before_sleep=say,
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=MAX_WAIT),
        stop=enough,
        reraise=True,
    )
    return again(do)


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: the network, a busy server, bytes damaged on their way."""
    if (refusal := refused(error)) is not None:
        return refusal["Code"] in BUSY or refusal["Status"] == "429" or "500" <= refusal["Status"] != "501"
    if (status := _status(error)) is not None:
        return status in PASSING_STATUS or (status >= 500 and status not in LASTING_STATUS)
    return _has(error, (*_network(), *_damaged())) and not _has(error, _not_passing())


def is_of_the_place(error: BaseException) -> bool:
    """Whether an error says nothing of the file at hand."""
    if (refusal := refused(error)) is not None:
        closed = refusal["Status"] == "401" or (refusal["Status"] == "403" and refusal["Code"] not in OF_THE_FILE)
        return closed or refusal["Code"] in CLOSED or refusal["Code"].startswith("KMS.") or may_pass(error)
    if (status := _status(error)) is not None:
        return status in NO_ACCESS or may_pass(error)
    if _has(error, (*_damaged(), *aws_errors("ParamValidationError"), *_web("InvalidURL"))):
        return False
    if _has(error, (*_network(), *aws_errors("BotoCoreError"))):
        return True
    return isinstance(error, OSError) and error.errno in FULL_OR_CLOSED


def refused(error: BaseException) -> dict[str, str] | None:
    """What an S3 server said, if it was one that refused: Code, Message, Status (of HTTP)."""
    for cause in _found(error, aws_errors("ClientError")):
        status = str(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        return {"Code": "?", "Message": "no message", **cause.response.get("Error", {}), "Status": status}
    return None


def _status(error: BaseException) -> int | None:
    """What a web server said, if it was one that refused."""
    for cause in _found(error, (*_web("ClientResponseError"), *_hub("HfHubHTTPError"))):
        if isinstance(cause, _web("ClientResponseError")):
            return int(cause.status)
        if cause.response is not None:
            return int(cause.response.status_code)
    return None


def _has(error: BaseException, kinds: Kinds) -> bool:
    return any(True for _ in _found(error, kinds))


def _found(error: BaseException, kinds: Kinds) -> Iterator[Any]:
    """An error and its causes, those that are of some kinds."""
    return (cause for cause in _causes(error) if isinstance(cause, kinds))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _reason(error: Any) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    if refusal := refused(error):
        return f"refused by the S3 server: {refusal['Code']} ({refusal['Message']})"
    if isinstance(error, _hub("OfflineModeIsEnabled")):
        return "out of reach: HF_HUB_OFFLINE is set"
    if isinstance(error, _hub("HfHubHTTPError")) and (status := _status(error)) is not None:
        return f"refused by the hub: {status} ({error.response.reason_phrase})"
    if isinstance(error, ImportError) and (package := PACKAGE.search(str(error))):
        return f"a package is missing for such addresses: pip install {package[1]}"
    if isinstance(error, _web("ClientResponseError")):
        return f"refused by the web server: {error.status} ({error.message})"
    if isinstance(error, PermissionError):
        return f"no permission ({error.strerror or error})"
    if isinstance(error, OSError) and error.strerror:
        return " ".join(error.strerror.split())
    return " ".join(str(error).split()) or type(error).__name__
