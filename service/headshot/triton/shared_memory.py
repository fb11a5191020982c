"""Large tensors through system shared memory, where gateway and Triton share a host.

Optional and automatic: a region is registered with each server once, and a server that refuses it
(another host, another container, a server that forbids it) gets its tensors over the wire. Memory
is bounded; when it is used up, tensors go over the wire too. Blocks are wiped when they are given
back, so that no photo outlives its call here by more than the minute below.

Inputs are copied into a block for the length of a call, unless they lie in shared memory already:
in a `SharedMemoryPool.room`, which a stage fills and sends again and again, or in an earlier
answer.

A block is reused only when nobody can still write to it. An answered call has ended. Of a call that
was cancelled, timed out or lost its connection nobody knows, so its output blocks are set aside
until that server has answered a later call of the same model and a minute has passed. Without such
a call they stay aside, wiped every minute. Its input blocks are free at once: whoever still reads
them computes an answer that nobody awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from headshot.deadline import Deadline
from headshot.triton.endpoints import Endpoint
from headshot.triton.tensors import Array, TensorSpec, dtype_of

_log = logging.getLogger(__name__)

_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives; names are random
_PREFIX = "headshot-tensors-"
_LEAST_BYTES = 64 << 10  # smaller tensors are as quick on the wire
_SEGMENT_BYTES = 32 << 20
_QUARANTINE_S = 60.0
_REGISTER_TIMEOUT_S = 2.0
_UNREGISTER_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class SharedMemorySettings:
    """Bounds of the shared memory.

    Attributes:
        max_bytes: most memory of all segments together.
    """

    max_bytes: int = 256 << 20


@dataclass(eq=False)
class _Segment:
    name: str
    path: Path
    memory: mmap.mmap
    handle: int
    address: int
    used: int = 0
    registered: set[tuple[str, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Block:
    """A piece of a segment, of a power-of-two capacity, of which `size` bytes are in use."""

    segment: _Segment
    offset: int
    capacity: int
    size: int

    def wipe(self) -> None:
        """Overwrite the bytes in use: they are somebody's photo."""
        np.frombuffer(self.segment.memory, np.uint8, self.size, self.offset)[:] = 0

    def array(self, spec: TensorSpec) -> Array:
        """Return a view of the block's beginning as an array."""
        count = int(np.prod(spec.shape, dtype=np.int64))
        flat = np.frombuffer(self.segment.memory, spec.dtype, count, self.offset)
        return flat.reshape(spec.shape)


@dataclass(eq=False)
class _Aside:
    """A block that a server may still write to: since when, and when it is wiped next."""

    block: Block
    since: float
    wipe_at: float


class Lease:
    """The blocks of one call, by tensor name."""

    def __init__(self, pool: SharedMemoryPool | None = None) -> None:
        self._pool = pool
        self.inputs: dict[str, Block] = {}
        self.outputs: dict[str, Block] = {}
        self.copies: list[Block] = []  # those of the inputs that are this call's own

    def refer(
        self, request: service_pb2.ModelInferRequest, outputs: Mapping[str, TensorSpec]
    ) -> None:
        """Write into the request where its shared tensors lie; its inputs must be there."""
        for tensor in request.inputs:
            if tensor.name in self.inputs:
                size = _bytes(TensorSpec(dtype_of(tensor.datatype), tuple(tensor.shape)))
                _refer(tensor, self.inputs[tensor.name], size)
        if self.outputs:
            for name in outputs:
                wanted = request.outputs.add()
                wanted.name = name
                if name in self.outputs:
                    _refer(wanted, self.outputs[name], _bytes(outputs[name]))

    def views(self) -> dict[str, memoryview]:
        """Return the outputs' memory; each block is free again when its last view is gone."""
        views: dict[str, memoryview] = {}
        if self._pool is None:
            return views
        for name, block in self.outputs.items():
            whole = self._pool.lend(block)
            whole.flags.writeable = False
            views[name] = whole.data
        self.outputs = {}
        return views

    def close(self, endpoint: Endpoint, model: str, *, ended: bool) -> None:
        """Give all blocks back that are the call's own.

        Args:
            endpoint: where the call went.
            model: its model.
            ended: whether the server is known to be done with the call.
        """
        if self._pool is None:
            return
        for block in self.copies:
            self._pool.give_back(block)
        for block in self.outputs.values():
            if ended:
                self._pool.give_back(block)
            else:
                self._pool.set_aside(block, endpoint, model)
        self.copies = []
        self.inputs = {}
        self.outputs = {}


class SharedMemoryPool:
    """Segments of shared memory, cut into blocks; used from one event loop."""

    def __init__(self, settings: SharedMemorySettings | None = None) -> None:
        self._settings = settings or SharedMemorySettings()
        self._segments: list[_Segment] = []
        self._free: dict[int, list[Block]] = defaultdict(list)
        self._returned: deque[Block] = deque()  # finalizers run in any thread
        self._aside: dict[tuple[str, str], list[_Aside]] = defaultdict(list)
        self._left: list[weakref.ref[NDArray[np.uint8]]] = []
        self._refusing: set[str] = set()
        self._usable = _FOLDER.is_dir()
        if self._usable:
            _remove_abandoned()

    @property
    def reserved_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(len(segment.memory) for segment in self._segments)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of all segments."""
        return tuple(segment.path for segment in self._segments)

    async def unregister(self, endpoints: Iterable[Endpoint]) -> None:
        """Let servers drop their mappings, which else keep the memory as long as they run.

        Each is asked once and has a moment to answer: a server that is gone has none.
        """
        await asyncio.gather(
            *(
                endpoint.stub.SystemSharedMemoryUnregister(
                    service_pb2.SystemSharedMemoryUnregisterRequest(name=segment.name),
                    timeout=_UNREGISTER_TIMEOUT_S,
                )
                for endpoint in endpoints
                for segment in self._segments
                if (endpoint.url, endpoint.ejections) in segment.registered
            ),
            return_exceptions=True,
        )

    def close(self) -> None:
        """Remove the files; arrays that are still in use keep their memory until they go."""
        for segment in self._segments:
            segment.path.unlink(missing_ok=True)
            os.close(segment.handle)
        self._segments.clear()
        self._free.clear()
        self._usable = False

    @contextmanager
    def room(self, spec: TensorSpec) -> Iterator[Array]:
        """Yield an array to fill and to send as often as is wanted, which copies nothing.

        It is wiped at the end. Of a stage that was cut off a thread may still write to it, and a
        traceback keep it: it is free again when it is gone, and until then wiped at each `sweep`.
        Where it is small or no memory is left it is ordinary memory, and copied for each request.
        """
        block = self.take(_bytes(spec)) if self._usable else None
        if block is None:
            yield np.empty(spec.shape, spec.dtype)
            return
        whole = self.lend(block)
        try:
            yield whole.view(spec.dtype).reshape(spec.shape)
        finally:
            whole[:] = 0
            self._left.append(weakref.ref(whole))

    def lend(self, block: Block) -> NDArray[np.uint8]:
        """Return the bytes of a block, which is given back when they and their views are gone."""
        whole = np.frombuffer(block.segment.memory, np.uint8, block.size, block.offset)
        weakref.finalize(whole, self.give_back, block)
        return whole

    def give_back(self, block: Block) -> None:
        """Wipe a block and make it available again; may be called from any thread."""
        block.wipe()
        self._returned.append(block)

    def set_aside(self, block: Block, endpoint: Endpoint, model: str) -> None:
        """Keep a block that the server may still write to."""
        now = time.monotonic()
        self._aside[endpoint.url, model].append(_Aside(block, now, now + _QUARANTINE_S))

    def sweep(self) -> None:
        """Wipe what was set aside a minute ago, and each minute again; to be called often.

        Rooms that are left and not gone are wiped each time.
        The blocks stay aside, since only a later answer tells that nobody writes to them any more.
        """
        now = time.monotonic()
        for entry in (one for aside in self._aside.values() for one in aside):
            if now >= entry.wipe_at:
                entry.block.wipe()
                entry.wipe_at = now + _QUARANTINE_S
        self._left = [left for left in self._left if left() is not None]
        for left in self._left:
            whole = left()
            if whole is not None:
                whole[:] = 0

    def answered(self, endpoint: Endpoint, model: str, sent_at: float) -> None:
        """Free what was set aside before a call that was sent at `sent_at` and answered."""
        aside = self._aside.get((endpoint.url, model))
        if aside:
            limit = min(sent_at, time.monotonic() - _QUARANTINE_S)
            for entry in (one for one in aside if one.since <= limit):
                self.give_back(entry.block)
            aside[:] = [entry for entry in aside if entry.since > limit]

    def forget(self, endpoint: Endpoint) -> None:
        """Register again before the next use: the server says it does not know a region."""
        for segment in self._segments:
            segment.registered = {key for key in segment.registered if key[0] != endpoint.url}

    async def lease(
        self,
        endpoint: Endpoint,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, TensorSpec],
        deadline: Deadline,
    ) -> Lease:
        """Copy large inputs that are elsewhere into shared memory, reserve room for large outputs.

        A server that does not answer a registration before the deadline gets no shared memory.

        Returns:
            The blocks; none where nothing is large or the server does not share memory.
        """
        # A name may stand for several servers, each of which would have to know the region.
        unfit = endpoint.several or endpoint.url in self._refusing
        if not self._usable or unfit or deadline.expired:
            return Lease()
        lease = Lease(self)
        try:
            self._fill(lease, inputs, outputs)
            blocks = [*lease.inputs.values(), *lease.outputs.values()]
            for segment in {block.segment for block in blocks}:
                await self._register(segment, endpoint, deadline)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            lease.close(endpoint, "", ended=True)
            if isinstance(error, asyncio.CancelledError):
                raise
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return Lease()  # a server in trouble says nothing about its memory
            _log.info("endpoint %s shares no memory; tensors go over the wire", endpoint.url)
            self._refusing.add(endpoint.url)
            return Lease()
        except BaseException:
            # Whatever it was: what was copied is wiped.
            lease.close(endpoint, "", ended=True)
            raise
        return lease

    def _fill(
        self, lease: Lease, inputs: Mapping[str, Array], outputs: Mapping[str, TensorSpec]
    ) -> None:
        """Find or make blocks with the inputs, reserve some for outputs; all go into the lease."""
        for name, array in inputs.items():
            block = self._home(array)
            if block is not None:
                lease.inputs[name] = block
                continue
            block = self.take(array.nbytes)
            if block is not None:
                lease.inputs[name] = block
                lease.copies.append(block)
                np.copyto(block.array(TensorSpec(array.dtype, array.shape)), array)
        for name, spec in outputs.items():
            if -1 not in spec.shape and not spec.dtype.hasobject:
                block = self.take(_bytes(spec))
                if block is not None:
                    lease.outputs[name] = block

    def _home(self, array: Array) -> Block | None:
        """Return where in shared memory an array lies, None where it lies elsewhere."""
        for segment in self._segments:
            offset = array.ctypes.data - segment.address
            if 0 <= offset < len(segment.memory) and array.flags.c_contiguous:
                return Block(segment, offset, array.nbytes, array.nbytes)
        return None

    async def _register(self, segment: _Segment, endpoint: Endpoint, deadline: Deadline) -> None:
        # A server that came back after an ejection is a new process that knows no region.
        key = (endpoint.url, endpoint.ejections)
        if key not in segment.registered:
            request = service_pb2.SystemSharedMemoryRegisterRequest(
                name=segment.name, key=f"/{segment.path.name}", byte_size=len(segment.memory)
            )
            try:
                await endpoint.stub.SystemSharedMemoryRegister(
                    request, timeout=min(_REGISTER_TIMEOUT_S, max(1e-3, deadline.remaining()))
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise
            segment.registered.add(key)

    def take(self, size: int) -> Block | None:
        """Return a block for `size` bytes, or None for small ones and where none is left."""
        if size < _LEAST_BYTES:
            return None
        while self._returned:
            block = self._returned.popleft()
            self._free[block.capacity].append(block)
        capacity = 1 << (size - 1).bit_length()
        if self._free[capacity]:
            return replace(self._free[capacity].pop(), size=size)
        segment = next(
            (one for one in self._segments if one.used + capacity <= len(one.memory)), None
        )
        if segment is None:
            segment = self._grow(max(_SEGMENT_BYTES, capacity))
        if segment is None:
            return None
        block = Block(segment, segment.used, capacity, size)
        segment.used += capacity
        return block

    def _grow(self, size: int) -> _Segment | None:
        if self.reserved_bytes + size > self._settings.max_bytes:
            return None
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        path = _FOLDER / name
        handle = -1
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # Held as long as this process lives; see _remove_abandoned.
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Reserve now: writing to a full file system later would be a bus error.
            os.posix_fallocate(handle, 0, size)
            memory = mmap.mmap(handle, size)
        except OSError:
            _log.warning("no room for shared memory; tensors go over the wire")
            if handle >= 0:
                path.unlink(missing_ok=True)
                os.close(handle)
            self._usable = bool(self._segments)
            return None
        address = np.frombuffer(memory, np.uint8).ctypes.data
        segment = _Segment(name, path, memory, handle, address)
        self._segments.append(segment)
        return segment


def _bytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize


def _refer(
    tensor: service_pb2.ModelInferRequest.InferInputTensor
    | service_pb2.ModelInferRequest.InferRequestedOutputTensor,
    block: Block,
    size: int,
) -> None:
    tensor.parameters["shared_memory_region"].string_param = block.segment.name
    tensor.parameters["shared_memory_offset"].int64_param = block.offset
    tensor.parameters["shared_memory_byte_size"].int64_param = size


def _remove_abandoned() -> None:
    """Remove the segments of processes that were killed: their locks are gone with them."""
    for path in _FOLDER.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)
