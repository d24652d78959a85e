"""One GET over HTTP/3, with the certificate verified; what came of it as a line of JSON.

    quic.py NAME PORT ROOTS [SESSION]

SESSION is a file: a session in it is resumed (with the request as early data, if it allows that),
and the newest one is left there.
"""

import asyncio
import json
import os
import pickle
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted

SECONDS = 60


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.began = time.monotonic()
        self.seen = {"body": "", "early_data": False, "resumed": False}
        self.h3 = H3Connection(self._quic)
        self.over = asyncio.get_running_loop().create_future()

    def get(self, name):
        stream = self._quic.get_next_available_stream_id()
        head = {":method": "GET", ":scheme": "https", ":authority": name, ":path": "/"}
        self.h3.send_headers(
            stream, [(k.encode(), v.encode()) for k, v in head.items()], end_stream=True
        )
        self.transmit()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.seen["seconds"] = time.monotonic() - self.began
            self.seen["resumed"] = event.session_resumed
            self.seen["early_data"] = event.early_data_accepted
        if isinstance(event, ConnectionTerminated):
            self.seen["error"] = event.error_code
            self.seen["reason"] = event.reason_phrase
            self.seen.setdefault("seconds", time.monotonic() - self.began)
            self.end()
        for event in self.h3.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.seen["status"] = int(dict(event.headers)[b":status"])
            if isinstance(event, DataReceived):
                self.seen["body"] += event.data.decode()
            if getattr(event, "stream_ended", False):
                self.end()

    def end(self):
        if not self.over.done():
            self.over.set_result(None)

    def certificate(self):
        # Sent in full handshakes alone; aioquic has no public way to it.
        certificate = self._quic.tls._peer_certificate
        if certificate is None:
            return None
        number = certificate.serial_number
        return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


async def get(name, port, roots, session=None):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, server_name=name, cafile=roots
    )
    if session and os.path.exists(session):
        with open(session, "rb") as file:
            configuration.session_ticket = pickle.load(file)
    tickets = []
    async with connect(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=Client,
        session_ticket_handler=tickets.append,
        wait_connected=False,
    ) as client:
        client.get(name)
        await asyncio.wait_for(client.over, SECONDS)
        client.seen["serial"] = client.certificate()
    if session and tickets:
        with open(session, "wb") as file:
            pickle.dump(tickets[-1], file)
    return client.seen


name, port, roots, *session = sys.argv[1:]
print(json.dumps(asyncio.run(get(name, int(port), roots, *session))))
