"""A peer that calls a method over plain HTTP/2 and takes nothing of the answer."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """Return a literal header without indexing and without Huffman coding (RFC 7541, 6.2.2)."""
    parts = [b"\x00"]
    for text in (name, value):
        if len(text) >= 127:
            raise ValueError("longer than one byte of length says")
        parts.append(bytes([len(text)]) + text.encode())
    return b"".join(parts)


@dataclass
class SilentPeer:
    """Its window for answers is 0; it answers pings as long as it lives."""

    _writer: asyncio.StreamWriter
    _listening: asyncio.Task[None]

    @classmethod
    async def call(cls, address: str, method: str, message: bytes) -> SilentPeer:
        """Call `method` of host:port with one message."""
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        window = struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, window))
        block = b"".join(_header(name, value) for name, value in headers.items())
        writer.write(_frame(_HEADERS, _END_HEADERS, 1, block))
        body = struct.pack(">BI", 0, len(message)) + message
        writer.write(_frame(_DATA, _END_STREAM, 1, body))
        await writer.drain()
        return cls(writer, asyncio.ensure_future(_listen(reader, writer)))

    async def die(self) -> None:
        """Answer nothing from now on, not even pings, as a machine that lost its power."""
        self._listening.cancel()
        await asyncio.wait([self._listening])

    async def close(self) -> None:
        """Hang up."""
        await self.die()
        self._writer.close()


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readexactly(9)
            kind, flags = head[3], head[4]
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                writer.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
