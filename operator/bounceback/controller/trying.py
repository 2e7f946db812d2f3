"""What is seen through for one object, whatever comes in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from bounceback.controller.leader import Leadership, NotLeaderError
from bounceback.controller.resources import FencedError, GoneError
from bounceback.kube import KubeError
from bounceback.vehicles.errors import Overtaken

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
LONGEST_PAUSE: Final = 30.0
log = logging.getLogger(__name__)
Key = tuple[str, str, str]  # namespace, name, UID


async def until_done(leadership: Leadership, key: Key, work: Callable[[Key], Awaitable[None]]) -> None:
    """Again after each trouble, from what is written down then."""
    pause = 0.5
    while True:
        try:
            await work(key)
            return
        except (GoneError, NotLeaderError) as error:
            log.info("%s/%s: left alone: %s", key[0], key[1], error)
            return
        except (FencedError, Overtaken) as error:
            if not leadership.held():
                log.info("%s/%s: left alone: %s", key[0], key[1], error)
                return
            log.warning("%s/%s: %s; again in %.1f s", key[0], key[1], error, pause)  # our own, of an earlier term
        except PASSING as error:
            log.warning("%s/%s: %s; again in %.1f s", key[0], key[1], error, pause)
        except Exception:  # one run's defect must not end the others; it is logged whole and tried again
            log.exception("%s/%s: a defect; again in %.1f s", key[0], key[1], pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
