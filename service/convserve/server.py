"""The process around the application: listen, announce, drain on a signal, exit with 0."""

import asyncio
import gc
import logging
import math
import sys
from functools import partial
from time import monotonic
from types import FrameType
from typing import cast

import uvicorn

from convserve.app import create_app
from convserve.engine.memory import return_freed_memory
from convserve.errors import ConvserveError
from convserve.protocol import Protocol
from convserve.repository import Repository
from convserve.settings import Settings

# Objects that may be new before the collector looks for cycles, of which requests leave none: its
# default of 700, a request or two, costs a tenth of the time of a small network's requests.
NEW_OBJECTS = 10_000
# After so long a thread that runs Python lets another have a turn. Executors want one twice a run,
# for some microseconds, and their cores idle until they get it; Python's 5 ms would be as long as
# the run itself.
TURN_SECONDS = 0.0001

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn, but a first SIGTERM or SIGINT makes the service not ready and drains it.

    A second signal ends the drain, a third drops what is unfinished. Unlike uvicorn's own
    server it does not raise the signal again at the end: a drained service ends with 0.
    """

    def __init__(self, settings: Settings) -> None:
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            root_path=settings.root_path,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            http=cast(type[asyncio.Protocol], partial(Protocol, app.door())),
            lifespan="on",
            timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
        )
        super().__init__(config)
        self._repository: Repository = app.repository
        self._drain_seconds = settings.drain_seconds
        self._stop_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Be the signal handler: nothing but flags."""
        if self._stop_at == math.inf:
            self._repository.begin_drain()
            self._stop_at = monotonic() + self._drain_seconds
        else:
            self.force_exit = self.should_exit
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to stop; called ten times a second."""
        return await super().on_tick(counter) or monotonic() >= self._stop_at

    async def main_loop(self) -> None:
        """Serve, and say so on stdout once it is settled what can be asked."""
        announcement = asyncio.create_task(self._announce())
        await super().main_loop()
        announcement.cancel()

    async def _announce(self) -> None:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self.config.root_path}"
        print(f"convserve listens at {url}", flush=True)
        await self._repository.settled()
        try:
            self._repository.check_ready()
            print(f"convserve is ready at {url}", flush=True)
        except ConvserveError as error:
            print(f"convserve is not ready: {error.detail}", flush=True)


def serve(settings: Settings) -> int:
    """Serve until a signal; returns the exit code."""
    return_freed_memory()
    _warn_if_open(settings)
    server = Server(settings)
    gc.freeze()  # what is imported stays: looking through it time and again takes 0.1 s each
    gc.set_threshold(NEW_OBJECTS)
    sys.setswitchinterval(TURN_SECONDS)
    server.run()
    return 0


def _warn_if_open(settings: Settings) -> None:
    local = settings.host == "localhost" or settings.host.startswith(("127.", "::1"))
    if not local and not settings.inference_keys:
        logger.warning(
            "listening on %s without keys: whoever reaches it may ask; "
            "set CONVSERVE_INFERENCE_KEYS, or put a proxy in front",
            settings.host,
        )
