"""A client with its models checked: gateway and external servers may start in any order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headshot.deadline import Deadline
from headshot.errors import ModelUnavailableError
from headshot.triton.client import InferenceClient
from headshot.triton.contracts import ModelSet, load_model_set

_log = logging.getLogger(__name__)

_PAUSE_S = 1.0
_TRY_S = 10.0


async def connect(
    make: Callable[[], InferenceClient], deadline: Deadline, *, wait: bool
) -> tuple[InferenceClient, ModelSet]:
    """Return a client and the models that its servers have.

    Each try has a client of its own: gRPC asks for a name that was not known again only after a
    pause that grows to two minutes.

    Args:
        make: makes a client; the caller closes the one that is returned.
        deadline: when to give up.
        wait: try again until the deadline while no server answers or a model is not ready.

    Raises:
        ModelUnavailableError: as `load_model_set`, at the deadline where `wait` is set.
        ModelContractError: as `load_model_set`, at once.
    """
    told = False
    while True:
        client = make()
        try:
            models = await load_model_set(client, deadline.earlier(_TRY_S) if wait else deadline)
        except ModelUnavailableError as error:
            await client.close()
            if not wait or deadline.remaining() <= _PAUSE_S:
                raise
            if not told:
                urls = ", ".join(endpoint.url for endpoint in client.endpoints)
                _log.warning(
                    "waiting up to %.0f s for the models of %s: %s",
                    deadline.remaining(),
                    urls,
                    error,
                )
                told = True
        except BaseException:
            await client.close()
            raise
        else:
            return client, models
        await asyncio.sleep(_PAUSE_S)
