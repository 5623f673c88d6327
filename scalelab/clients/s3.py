"""S3: objects in buckets over boto3, with deadlines, bounded threads and one error tree.

boto3 blocks, so each call runs on a thread of a pool that this client owns. A caller whose time is
up goes on at once; its thread ends by the time-outs of the connection, and until then its place
counts as taken.

Guarantees
    G1  At most `threads` calls are under way and at most `waiting` more wait; the next is refused
        with Overloaded before anything was sent.
    G2  A call is tried at most `attempts` times. That is safe: every call here has the same effect
        once or twice, except a conditional one, which may find its own first try (Conflict).
    G3  A write without an answer is OutcomeUnknown, a read without one is Unavailable.
    G4  What `get` returns has the length and the checksum that the server promised, or it raises.
    G5  Nothing is taken from the environment: no keys, no profile, no proxy.

Signatures are version 4 and the bucket stands in the path, which every S3 server understands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from scalelab.clients.s3_errors import TRANSPORT, translate
from scalelab.errors import (
    CorruptData,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        ListObjectsV2OutputTypeDef,
        PutObjectRequestTypeDef,
    )

T = TypeVar("T")
LONGEST_LINK_S = 7 * 24 * 3600
SMALLEST_PART_BYTES = 5 << 20
"""Of a multipart upload; only the last part may be smaller."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach one S3 server. call_timeout_s: of one call with its tries, seen by the caller.

    connect_timeout_s, read_timeout_s: of one try. limit_bytes: of an object read whole.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 15.0
    call_timeout_s: float = 60.0
    attempts: int = 3
    threads: int = 8
    waiting: int = 256
    limit_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What is known of an object without reading it. size: bytes. metadata: as it was put."""

    key: str
    size: int
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that the server holds. etag: MD5 of its bytes in hex, in quotes. size: bytes."""

    number: int
    etag: str
    size: int


class ObjectStore:
    """A client of one S3 server; an async context manager."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="s3")
        self._taken = 0
        self._client = _connect(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self._client.close()

    async def ensure_bucket(self, bucket: str) -> None:
        """Make the bucket unless it is ours already. Conflict `bucket_exists` if another's."""

        def make() -> None:
            with contextlib.suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
                self._client.create_bucket(Bucket=bucket)

        await self._call(make, writes=True, what=f"make bucket {bucket}")

    async def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        only_if_absent: bool = False,
    ) -> None:
        """Store an object whole; a reader sees the old or the new one, never half.

        Raises Conflict `object_changed` if it is there and must not be, NotFound `no_such_bucket`.
        """
        request: PutObjectRequestTypeDef = {
            "Bucket": bucket,
            "Key": key,
            "Body": body,
            "Metadata": dict(metadata or {}),
            "ChecksumAlgorithm": "SHA256",
        }
        if only_if_absent:
            request["IfNoneMatch"] = "*"

        def send() -> None:
            self._client.put_object(**request)

        await self._call(send, writes=True, what=f"put {bucket}/{key}")

    async def get(self, bucket: str, key: str) -> bytes:
        """All of an object. Raises NotFound, TooLarge over `limit_bytes`, CorruptData."""

        def read() -> bytes:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            # closing: the body's own `with` gives the bare stream, whose checksum nobody compares.
            with contextlib.closing(answer["Body"]) as body:
                if answer["ContentLength"] > self._settings.limit_bytes:
                    raise TooLarge(f"{bucket}/{key} has {answer['ContentLength']} bytes")
                found = body.read()
            if len(found) != answer["ContentLength"]:
                raise CorruptData(f"{bucket}/{key} came cut short", code="object_corrupt")
            return found

        return await self._call(read, writes=False, what=f"get {bucket}/{key}")

    async def get_range(self, bucket: str, key: str, first: int, count: int) -> bytes:
        """`count` bytes from offset `first`, fewer at the end. No checksum covers a part."""

        def read() -> bytes:
            asked = f"bytes={first}-{first + count - 1}"
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=asked)
            with contextlib.closing(answer["Body"]) as body:
                return body.read()

        return await self._call(read, writes=False, what=f"get {bucket}/{key} from {first}")

    async def head(self, bucket: str, key: str) -> StoredObject:
        """What is known of an object. Raises NotFound `no_such_object` or `no_such_bucket`."""

        def ask() -> StoredObject:
            try:
                found = self._client.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (403, 404):
                    # The answer to a HEAD has no body: only a GET tells what is missing or wrong.
                    self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
                raise
            return StoredObject(key, found["ContentLength"], found["ETag"], found["Metadata"])

        return await self._call(ask, writes=False, what=f"head {bucket}/{key}")

    async def copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Copy an object within the server. source, target: (bucket, key)."""

        def ask() -> None:
            self._client.copy_object(
                Bucket=target[0],
                Key=target[1],
                CopySource={"Bucket": source[0], "Key": source[1]},
            )

        what = f"copy {'/'.join(source)} to {'/'.join(target)}"
        await self._call(ask, writes=True, what=what)

    async def delete(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there counts as removed."""

        def ask() -> None:
            self._client.delete_object(Bucket=bucket, Key=key)

        await self._call(ask, writes=True, what=f"delete {bucket}/{key}")

    async def keys(self, bucket: str, prefix: str = "", *, page: int = 1000) -> AsyncIterator[str]:
        """Keys below a prefix in order, asked for by the page."""
        after = ""

        def ask() -> ListObjectsV2OutputTypeDef:
            return self._client.list_objects_v2(
                Bucket=bucket, Prefix=prefix, MaxKeys=page, StartAfter=after
            )

        while True:
            found = await self._call(ask, writes=False, what=f"list {bucket}/{prefix}")
            for one in found.get("Contents", []):
                after = one.get("Key", "")
                yield after
            if not found.get("IsTruncated"):
                return

    async def begin_upload(self, bucket: str, key: str) -> str:
        """Begin a multipart upload; its id. Nothing can be read under the key until it ends."""

        def ask() -> str:
            return self._client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]

        return await self._call(ask, writes=True, what=f"begin upload of {bucket}/{key}")

    async def uploads(self, bucket: str, key: str) -> list[str]:
        """Ids of the uploads of a key that were begun and neither completed nor given up."""

        def ask() -> list[str]:
            answer = self._client.list_multipart_uploads(Bucket=bucket, Prefix=key)
            found = [one for one in answer.get("Uploads", []) if one.get("Key") == key]
            return [one.get("UploadId", "") for one in found]

        return await self._call(ask, writes=False, what=f"list uploads of {bucket}/{key}")

    async def put_part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> str:
        """Store one part, replacing one of the same number; its ETag. number: 1..10,000."""

        def send() -> str:
            answer = self._client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body
            )
            return answer["ETag"]

        return await self._call(send, writes=True, what=f"put part {number} of {bucket}/{key}")

    async def parts(self, bucket: str, key: str, upload: str) -> list[UploadedPart]:
        """The parts that the server holds, by number. Raises NotFound `no_such_upload`."""

        def ask() -> list[UploadedPart]:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=bucket, Key=key, UploadId=upload
            )
            return [
                UploadedPart(part.get("PartNumber", 0), part.get("ETag", ""), part.get("Size", 0))
                for answer in pages
                for part in answer.get("Parts", [])
            ]

        return await self._call(ask, writes=False, what=f"list parts of {bucket}/{key}")

    async def complete_upload(
        self, bucket: str, key: str, upload: str, etags: Mapping[int, str]
    ) -> None:
        """Make the parts the object. etags: by number. Conflict `part_missing` if one is not."""

        def ask() -> None:
            parts: list[CompletedPartTypeDef] = [
                {"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())
            ]
            self._client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            )

        await self._call(ask, writes=True, what=f"complete upload of {bucket}/{key}")

    async def give_up_upload(self, bucket: str, key: str, upload: str) -> None:
        """Drop an upload and its parts; one that is not there counts as dropped."""

        def ask() -> None:
            self._client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)

        try:
            await self._call(ask, writes=True, what=f"give up upload of {bucket}/{key}")
        except NotFound:
            return

    def link(
        self, operation: Literal["get", "put"], bucket: str, key: str, *, expires_s: int
    ) -> str:
        """A presigned URL: whoever holds it may do this one thing until it expires. No I/O.

        expires_s: 1 to 604,800. Nobody can take it back but by taking the key pair back.
        """
        if not 1 <= expires_s <= LONGEST_LINK_S:
            raise InvalidInput(f"a link lives 1 to {LONGEST_LINK_S} s", field="expires_s")
        return self._client.generate_presigned_url(
            f"{operation}_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=expires_s
        )

    async def _call(self, work: Callable[[], T], *, writes: bool, what: str) -> T:
        settings = self._settings
        if self._taken >= settings.threads + settings.waiting:
            raise Overloaded(f"{what}: too many calls wait for the object store", code="s3_queue")

        def translated() -> T:
            try:
                return work()
            except (ClientError, *TRANSPORT) as error:
                raise translate(error, writes=writes, what=what) from error

        self._taken += 1
        job = asyncio.get_running_loop().run_in_executor(self._threads, translated)
        job.add_done_callback(self._freed)
        try:
            async with asyncio.timeout(settings.call_timeout_s):
                return await asyncio.shield(job)
        except TimeoutError as error:
            said = f"{what}: no answer within {settings.call_timeout_s} s"
            raise (OutcomeUnknown(said) if writes else DeadlineExceeded(said)) from error

    def _freed(self, job: asyncio.Future[T]) -> None:
        self._taken -= 1
        if not job.cancelled():
            job.exception()  # seen: its caller may have gone on when its time was up


def _connect(settings: S3Settings) -> S3Client:
    # A session of our own: boto3's default one is shared by the whole process.
    session = boto3.session.Session(
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        region_name=settings.region,
    )
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        max_pool_connections=settings.threads,
        proxies={},
    )
    return session.client("s3", endpoint_url=settings.endpoint, config=config)
