"""Where snapshots are, as people write it: a folder, or a URI of object storage; and how to reach it.

    /srv/cqar/snapshots                     file:///srv/cqar/snapshots
    s3://bucket/prefix?region=eu-west-1     s3://bucket?endpoint_override=minio:9000&scheme=http
    gs://bucket/prefix

A URI may hold secrets, so it is never shown: what is shown is `Place.name`. Secrets belong into the environment, where the
libraries of the providers look for them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from cqar.errors import CqarError, InvalidError, SnapshotError, UnavailableError

Location = str | os.PathLike[str]

CONNECT_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 30.0  # without a byte; the SDK's own 3 s are too few for a busy storage
ATTEMPTS: Final = 2  # of a request; whoever asks comes again by itself

_TEXTS: Final = frozenset(
    {
        *("access_key", "secret_key", "session_token", "region", "scheme", "endpoint_override"),
        *("role_arn", "session_name", "external_id", "proxy_options", "tls_ca_file_path"),
    }
)
_NUMBERS: Final = frozenset({"request_timeout", "connect_timeout"})
_TRUTHS: Final = frozenset({"anonymous", "force_virtual_addressing"})
_GS: Final = frozenset({"scheme", "endpoint_override", "retry_limit_seconds", "project_id"})


class Place(msgspec.Struct, frozen=True):
    """A place on object storage."""

    scheme: str
    root: str  # the bucket, then the prefix if there is one
    user: str  # what stands before an @, as it was written: may hold a secret
    options: dict[str, str]  # likewise

    @property
    def name(self) -> str:
        """What to call it before people."""
        return f"{self.scheme}://{self.root}"

    @property
    def identity(self) -> str:
        """Tell it from every other place, whoever writes it with whatever options."""
        endpoint = self.options.get("endpoint_override") or (_endpoint() if self.scheme == "s3" else "")
        return f"{self.name} at {endpoint.rpartition('//')[2]}" if endpoint else self.name

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Place({self.name})"

    __str__ = __repr__


def folder_of(location: Location) -> Path | None:
    """Give the folder that a location is; None for one on object storage. InvalidError for a URI that is neither."""
    text = os.fspath(location)
    if "://" not in text:
        return Path(text).expanduser()
    if text.startswith("file://"):
        host, slash, path = text.removeprefix("file://").partition("/")
        if host not in {"", "localhost"} or not slash:
            raise _invalid("a file:// URI is file:///folder, with three slashes")
        return Path(f"/{unquote(path)}")
    place_of(text)
    return None


def place_of(uri: str) -> Place:
    """Take a URI apart. InvalidError, which shows nothing that may be a secret, if it is none that can be used."""
    try:
        parts = urlsplit(uri)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _invalid("not a URI, such as s3://bucket/prefix?region=eu-west-1") from None
    user, _, bucket = parts.netloc.rpartition("@")
    known = {"s3": _TEXTS | _NUMBERS | _TRUTHS, "gs": _GS, "gcs": _GS}.get(parts.scheme)
    if known is None:
        raise _invalid("give a folder, or a URI that begins with s3://, gs:// or file://")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket) or "@" in parts.path or parts.fragment:
        raise _invalid(
            f"{parts.scheme}://BUCKET/PREFIX is expected; a key in a URI must be percent-encoded (/ is %2F),"
            " and is better in the environment"
        )
    if unknown := sorted(options.keys() - known):
        raise _invalid(f"unknown option: {unknown[0]}; known are {', '.join(sorted(known))}")
    prefix = "/".join([each for each in unquote(parts.path).split("/") if each])
    if {".", ".."} & set(prefix.split("/")):
        raise _invalid("a prefix must not have . or .. in it")
    return Place(parts.scheme, f"{bucket}/{prefix}".rstrip("/"), user, options)


def shown(location: Location) -> str:
    """Give a location fit for a log or a message."""
    text = os.fspath(location)
    if "://" not in text:
        return text
    try:
        folder = folder_of(text)
        return place_of(text).name if folder is None else str(folder)
    except InvalidError:
        return "***"


def _invalid(what: str) -> InvalidError:
    return InvalidError(f"snapshots: {what}", reason="SNAPSHOT_LOCATION", field="snapshots")


def file_system(place: Place) -> Any:
    """Give the `pyarrow.fs.FileSystem` of a place. Nothing is asked of the place yet, but for the region of a bucket."""
    from pyarrow import fs  # noqa: PLC0415  (slow to import, seldom needed)

    try:
        with reaching(place):
            return _s3(place, fs) if place.scheme == "s3" else _gs(place, fs)
    except (ValueError, NotImplementedError, ImportError) as error:  # the message may hold what was given
        raise _invalid(f"{place.name}: an option cannot be used ({type(error).__name__})") from None


def _s3(place: Place, fs: Any) -> Any:
    given: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "request_timeout": SILENT_SECONDS}
    for name, value in place.options.items():
        if name in _NUMBERS:
            given[name] = float(value)
        else:
            given[name] = value.lower() in {"true", "1", "yes"} if name in _TRUTHS else value
    if place.user:
        key, _, secret = place.user.partition(":")
        given |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    if not given.get("endpoint_override") and (url := _endpoint()):  # which pyarrow looks at for a URI only
        scheme, _, address = url.rstrip("/").rpartition("://")
        given |= {"endpoint_override": address, "scheme": given.get("scheme") or scheme or "https"}
    own = given.get("endpoint_override")
    if not given.get("region"):  # with none at all the SDK would ask a metadata service that most hosts do not have
        told = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        given["region"] = told or ("us-east-1" if own else fs.resolve_s3_region(place.root.partition("/")[0]))
    return fs.S3FileSystem(
        **given,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small object is one request, which not all storages are otherwise happy with
    )


def _endpoint() -> str:
    """Give the address of another storage than Amazon's, if the environment names one."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _gs(place: Place, fs: Any) -> Any:
    options = {"retry_limit_seconds": f"{SILENT_SECONDS:g}", **place.options}
    user = f"{place.user}@" if place.user else ""
    made, _ = fs.FileSystem.from_uri(f"gs://{user}{quote(place.root)}?{urlencode(options)}")
    return made


@contextlib.contextmanager
def reaching(place: Place) -> Iterator[None]:
    """Turn what goes wrong with a storage into an error that says what to do; FileNotFoundError is left to the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if "NO_SUCH_KEY" in str(error):  # removed while it was open
            raise FileNotFoundError(str(error)) from None
        raise _explained(place, str(error)) from None


# What the libraries say, of which no more than the text reaches us: words in it, and what to do then.
_WORDS: Final[tuple[tuple[tuple[str, ...], type[CqarError], str, str], ...]] = (
    (
        ("NO_SUCH_BUCKET", "bucket does not exist", "specified bucket"),
        SnapshotError,
        "NO_BUCKET",
        "there is no such bucket: is its name right?",
    ),
    (
        ("PERMANENT_REDIRECT", "AuthorizationHeaderMalformed", "TemporaryRedirect", "HTTP response code: 301"),
        UnavailableError,
        "STORAGE_REGION",
        "the bucket is in another region: give ?region=…, or set AWS_REGION",
    ),
    (
        (
            *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "MISSING_AUTHENTICATION_TOKEN"),
            *("EXPIRED_TOKEN", "INVALID_CLIENT_TOKEN_ID", "UNRECOGNIZED_CLIENT", "ExpiredToken", "InvalidToken"),
            *("PERMISSION_DENIED", "UNAUTHENTICATED", "OAuth2", "redentials"),
        ),
        UnavailableError,
        "STORAGE_ACCESS",
        "access is denied: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (gs: GOOGLE_APPLICATION_CREDENTIALS) of who may",
    ),
    (
        ("NETWORK_CONNECTION", "curlCode", "CURL error", "resolve host", "Retry policy exhausted"),
        UnavailableError,
        "STORAGE",
        "cannot be reached; is the network up, and endpoint_override (or AWS_ENDPOINT_URL) right if it is not the provider's?",
    ),
)


STORAGE_REASONS: Final = frozenset({reason for _, _, reason, _ in _WORDS})


def _explained(place: Place, text: str) -> CqarError:
    said = re.sub(r" \(Request ID.*", "", text.rpartition("operation: ")[2].rpartition("Details: ")[2])
    said = " ".join(said.split())[:200].rstrip(". ")
    for words, kind, reason, advice in _WORDS:
        if any(word in text for word in words):
            return kind(f"{place.name}: {advice} ({said or 'no details'})", reason=reason)
    return UnavailableError(f"{place.name}: the storage failed: {said or 'no details'}", reason="STORAGE")
