"""A bucket of an S3-compatible object store: what is put there and read again, and in plain words what it refuses.

Each request waits in a thread of ours. The library's own coroutines are answered by threads that Python does not know:
one that wants it while it ends takes the whole process with it, by SIGABRT (PyO3/pyo3-async-runtimes#40).

No message says a key, a secret or a token: what a store answers is told by its code and its sentence, without the rest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, S3Store

from bounceback.report.objects import Listed
from bounceback.report.redact import HIDDEN

if TYPE_CHECKING:
    from obstore.store import S3Credential  # which is only there for those who look at types

T = TypeVar("T")
THREADS: Final = ThreadPoolExecutor(8, thread_name_prefix="bucket")
"""Of their own: a store that does not answer must not keep others from theirs. Python waits for them at its end."""
CONNECT: Final = timedelta(seconds=5)
REQUEST: Final = timedelta(seconds=20)
"""For one object, there and back; whoever asks has bounds of its own for all of it."""
MOST_WORDS: Final = 300
CREDENTIALS: Final = "give the keys of an account that may use it"
REFUSALS: Final = {
    "NoSuchBucket": ("NoBucket", "make it, or name another"),
    "AccessDenied": ("Forbidden", "give the account of these keys that right"),
    "InvalidAccessKeyId": ("Forbidden", CREDENTIALS),
    "XAdminUserNotFound": ("Forbidden", CREDENTIALS),
    "SignatureDoesNotMatch": ("Forbidden", "the secret key is not the one that belongs to the access key"),
    "ExpiredToken": ("Forbidden", "the session token is over; give new keys"),
    "InvalidToken": ("Forbidden", "the session token does not belong to these keys"),
    "RequestTimeTooSkewed": ("Forbidden", "set the clock of this node"),
    "AuthorizationHeaderMalformed": ("WrongRegion", "name the region of the bucket"),
    "PermanentRedirect": ("WrongRegion", "name the region or the endpoint of the bucket"),
    "QuotaExceeded": ("QuotaExceeded", "allow more, or keep less"),
    "XMinioAdminBucketQuotaExceeded": ("QuotaExceeded", "allow more, or keep less"),
    "XMinioStorageFull": ("StoreFull", "make it larger, or keep less"),
    "EntityTooLarge": ("TooLarge", "keep less of each run"),
}
"""By the code of the answer: a reason, and the way out."""
STATUSES: Final = {
    301: "PermanentRedirect",
    401: "AccessDenied",
    403: "AccessDenied",
    413: "EntityTooLarge",
    507: "XMinioStorageFull",
}
"""What a status means where there is no code, or one that only its own store knows."""
TROUBLE: Final = (BaseError, OSError, ValueError, NotImplementedError)
"""What the library raises."""
NOT_THERE: Final = ("NoSuchKey", "NoSuchVersion", "")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([\w.]{1,64})</Code>")
_SENTENCE: Final = re.compile(r"<Message>([^<]{1,500})</Message>")
_CERTIFICATE: Final = re.compile(r"InvalidCertificate\(\s*(\w+)")
_CAUSE: Final = re.compile(r'(?:message|error): "([^"]{1,200})"')


class BucketError(Exception):
    """It was not done. `passing`: it may be, if it is asked again."""

    def __init__(self, reason: str, message: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.passing = passing

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Access:
    """How a bucket is reached; what must not be told is in no representation of this."""

    bucket: str
    region: str
    endpoint: str = ""  # empty: AWS
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)  # of keys that are lent for a time
    authority: str = field(default="", repr=False)  # PEM: trusted beside those of the system


class Bucket:
    """Each method raises BucketError, and ends within REQUEST or a few of them."""

    def __init__(self, store: ObjectStore, name: str, hidden: Sequence[str] = ()) -> None:
        """`hidden` is what no message says, whatever a server repeats."""
        self._store = store
        self._hidden = tuple(filter(None, hidden))
        self.name = name

    @classmethod
    def of(cls, access: Access) -> Bucket:
        """Asks nothing of it yet. Raises BucketError where it cannot be asked with these settings."""
        client: dict[str, Any] = {
            "allow_http": access.endpoint.startswith("http://"),
            "connect_timeout": CONNECT,
            "timeout": REQUEST,
        }
        given: dict[str, Any] = {"endpoint": access.endpoint} if access.endpoint else {}
        if access.authority:
            client["root_certificate"] = access.authority
        credential: S3Credential = {
            "access_key_id": access.key,
            "secret_access_key": access.secret,
            "token": access.token or None,
            "expires_at": None,
        }
        try:
            store = S3Store(
                access.bucket,
                region=access.region,
                credential_provider=lambda: credential,  # and so none of the environment, or of the machine
                conditional_put="etag",
                skip_signature=False,
                unsigned_payload=False,
                disable_bulk_delete=True,  # which not every store knows
                client_options=client,  # type: ignore[arg-type]
                retry_config={"max_retries": 0},  # who asks knows for how long
                **given,
            )
        except (BaseError, ValueError) as error:
            raise BucketError("Unusable", f"bucket {access.bucket} cannot be asked: {_first_line(error)}") from error
        return cls(store, access.bucket, (access.secret, access.token, access.key))

    async def put_new(self, key: str, data: bytes) -> bool:
        """Written, whole or not at all; False: something has that key, and stays."""
        try:
            await _in_thread(lambda: obstore.put(self._store, key, data, mode="create", use_multipart=False))
        except AlreadyExistsError:
            return False
        except TROUBLE as error:
            if _status(str(error)) != 501:
                raise self._told(error, "put", key) from error
            return await self._put_looking_first(key, data)
        return True

    async def put(self, key: str, data: bytes) -> None:
        try:
            await _in_thread(lambda: obstore.put(self._store, key, data, use_multipart=False))
        except TROUBLE as error:
            raise self._told(error, "put", key) from error

    async def get(self, key: str, most: int) -> bytes | None:
        """None where there is none. Raises BucketError for more than so many bytes."""
        try:
            return await _in_thread(lambda: self._read(key, most))
        except TROUBLE as error:
            if isinstance(error, FileNotFoundError) and _code(str(error)) in NOT_THERE:
                return None
            raise self._told(error, "get", key) from error

    async def holds(self, key: str, data: bytes) -> bool:
        """Whether these very bytes are there. Raises BucketError where nothing is."""
        try:
            return await _in_thread(lambda: self._is(key, data))
        except FileNotFoundError as error:  # it was there a moment ago
            raise BucketError("StoreUnreachable", f"bucket {self.name} has lost {key}", passing=True) from error
        except TROUBLE as error:
            raise self._told(error, "get", key) from error

    async def listed(self, below: str) -> list[Listed]:
        """All objects whose keys lie below."""
        try:
            found = await _in_thread(lambda: obstore.list(self._store, below).collect())
        except TROUBLE as error:
            raise self._told(error, "list", below) from error
        return [Listed(each["path"], each["size"], each["last_modified"].isoformat()) for each in found]

    async def delete(self, key: str) -> None:
        """Gone, whether it was there or not."""
        try:
            await _in_thread(lambda: obstore.delete(self._store, key))
        except TROUBLE as error:
            if isinstance(error, FileNotFoundError) and _code(str(error)) in NOT_THERE:
                return
            raise self._told(error, "delete", key) from error

    async def _put_looking_first(self, key: str, data: bytes) -> bool:
        """For stores that do not know conditions: two who write at the same moment are not told apart."""
        if await self.get(key, len(data)) is not None:
            return False
        await self.put(key, data)
        return True

    def _read(self, key: str, most: int) -> bytes:
        found = obstore.get(self._store, key)
        if (size := found.meta["size"]) > most:
            message = f"{key} in bucket {self.name} has {size} bytes, and evidence at most {most}"
            raise BucketError("TooLarge", message)
        return bytes(found.bytes())

    def _is(self, key: str, data: bytes) -> bool:
        found = obstore.get(self._store, key)
        return found.meta["size"] == len(data) and bytes(found.bytes()) == data

    def _told(self, error: Exception, verb: str, key: str) -> BucketError:
        """The name is told without what it lies below, which may be long, and is the place."""
        what = f"{verb} {key.rpartition('/')[2]}"
        found = told(str(error), f"bucket {self.name} refused to {what}", f"bucket {self.name} did not {what}")
        for each in self._hidden:
            found.message = found.message.replace(each, HIDDEN)
        return found


async def _in_thread(ask: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(THREADS, ask)


def told(text: str, refused: str, undone: str) -> BucketError:
    """What an answer, or the lack of one, comes to."""
    status, code = _status(text), _code(text)
    if not status:
        return _unanswered(text, undone)
    if (status >= 500 and status not in (501, 507)) or status in (408, 409, 429):
        return BucketError("StoreUnreachable", f"{undone}: {_words(text)}", passing=True)
    known = code if code in REFUSALS else STATUSES.get(status, code)
    reason, way = REFUSALS.get(known, ("Refused", ""))
    return BucketError(reason, f"{refused}: {_words(text)}{f'; {way}' if way else ''}")


def _unanswered(text: str, undone: str) -> BucketError:
    """No connection, no TLS, no trust, or no answer in time."""
    if found := _CERTIFICATE.search(text):
        way = "have it signed by an authority that is trusted, or give that authority's certificate"
        return BucketError("NotTrusted", f"{undone}: its certificate is not trusted ({found[1]}); {way}")
    if "InvalidContentType" in text:
        return BucketError("NoTls", f"{undone}: what answers at the endpoint does not speak TLS")
    if "BadScheme" in text:
        return BucketError("Unusable", f"{undone}: it led from https to http")
    if "TimedOut" in text or "kind: Timeout" in text:
        return BucketError("StoreUnreachable", f"{undone}: no answer in time", passing=True)
    causes = _CAUSE.findall(text)
    return BucketError("StoreUnreachable", f"{undone}: {causes[-1] if causes else _first_line(text)}", passing=True)


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found[1]) if found else 0


def _code(text: str) -> str:
    found = _CODE.search(text)
    return found[1] if found else ""


def _words(text: str) -> str:
    """The code and the sentence of an answer. The rest of it may repeat the access key, and what was signed."""
    sentence = _SENTENCE.search(text)
    said = unescape(sentence[1]) if sentence else ""
    return ": ".join(filter(None, [_code(text) or f"status {_status(text)}", said]))[:MOST_WORDS]


def _first_line(error: object) -> str:
    """Without the library's account of itself."""
    return str(error).partition("\n")[0][:MOST_WORDS]
