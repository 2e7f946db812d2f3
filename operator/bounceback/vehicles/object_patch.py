"""ObjectPatch: the fault is a change of objects of the Kubernetes API, made and undone in the account's name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bounceback.engine import restoring
from bounceback.engine.originals import copy_of, rebased
from bounceback.engine.restoring import Create, Delete, Later, Nothing, Patch, Request
from bounceback.kube.client import FIELD_MANAGER, JSON_PATCH, Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.kinds import Kinds
from bounceback.kube.resources import Resource
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant
from bounceback.types.objects import ANEW, RBAC, SECRET_KINDS, Change, Dependents, ObjectKey
from bounceback.vehicles.errors import FORBIDDEN, Refused, refusal

ATTEMPTS: Final = 5
"""How often a request is computed anew because others wrote the object meanwhile."""
WRITTEN_MEANWHILE: Final = "others write it all the time"
ESCALATION: Final = "attempting to grant RBAC permissions not currently held"
"""The API server's own words (kubernetes pkg/registry/rbac/validation): nobody gives rights that they have not."""
MAY_GRANT: Final = (
    "give the account these rights, or the verb escalate on that Role (bind on what a RoleBinding refers to)"
)
PROPAGATION: Final = {Dependents.DELETE: "Background", Dependents.KEEP: "Orphan"}


@dataclass(frozen=True, slots=True)
class Undone:
    """Nothing of ours is there any more; `healed`: somebody else had seen to that already."""

    healed: bool = False
    gone: bool = False  # the object, or its namespace, is not there any more, and not by us
    left_alone: tuple[str, ...] = ()  # JSON pointers: changed by others, too, and theirs now


class ObjectPatch:
    """Objects of one experiment. All methods can be called again; where nothing else is said they raise KubeError,
    aiohttp.ClientError or TimeoutError for what may pass."""

    def __init__(self, acting: Kube, kinds: Kinds, account: str) -> None:
        """`account` is who `acting` acts for, in words."""
        self._acting = acting
        self._kinds = kinds
        self._account = account

    async def resource(self, key: ObjectKey) -> Resource:
        """Where it is served. Raises UnknownKindError."""
        return await self._kinds.resource(key.api_version, key.kind, namespaced=bool(key.namespace))

    async def read(self, key: ObjectKey) -> Json | None:
        """The object as it is now; None: there is none."""
        try:
            return await self._acting.get(await self.resource(key), key.namespace, key.name)
        except KubeError as error:
            if error.gone:
                return None
            raise

    async def rehearse(self, change: Change) -> Change:
        """The change as the API server would carry it out, by dry runs: of the change, and of the way back.

        Raises Refused where either would not be allowed, ValueError where something would not come about as asked.
        """
        wanted = restoring.patch(change)
        if not isinstance(wanted, Nothing):
            answer = await self._rehearsed(change.key, wanted, f"a change of {change.key}")
            change = restoring.settled(change, answer)
        if (back := restoring.back_again(change)) is not None:
            await self._rehearsed(change.key, back, f"putting {change.key} back")
        if not change.key.namespace and change.after is None:
            return change  # whether a namespace could be made again is asked by itself (Namespaces.check_undo)
        if change.before is not None and (change.after is None or change.key.api_version.startswith(RBAC)):
            await self._rehearsed(change.key, Create(copy_of(change.before)), f"{change.key} anew, to put it back")
        return change

    async def apply(self, change: Change) -> Instant | None:
        """When it was in force; None: the object is gone or another now. Done already is fine. Raises Refused."""
        if change.along:
            return Instant.now()
        for _ in range(ATTEMPTS):
            now = await self._found(change.key, f"a change of {change.key}")
            if change.before is not None and (now is None or now["metadata"]["uid"] != change.uid):
                return Instant.now() if change.after is None and now is None else None
            wanted = rebased(change, now)
            if wanted is None:
                why = f"{change.key} was changed by others since it was looked at, just where it was to be changed"
                raise Refused("", "ChangedMeanwhile", why)
            if isinstance(wanted, Nothing):
                return Instant.now()
            try:
                await self._send(change.key, wanted)
            except KubeError as error:
                if not (error.conflict or error.exists or error.gone):
                    raise self._told(error, change.key, f"a change of {change.key}") from error
                continue
            return Instant.now()
        raise Refused("", "ChangedMeanwhile", f"{change.key} could not be changed: {WRITTEN_MEANWHILE}")

    async def undo(self, change: Change) -> Undone:
        """Put right what is ours; what others changed stays. Raises Refused, and NotYet where it has to be waited for.

        A refusal may pass as well: rights come back.
        """
        backoff, touched = Backoff(0.05, 1.0), False
        left: tuple[str, ...] = ()
        for _ in range(ATTEMPTS * 4):
            now = await self._found_back(change)
            match restoring.undo(change, now):
                case Nothing() as nothing:
                    gone = now is None and change.before is not None and change.after is not None
                    return Undone(nothing.healed and not touched, gone, nothing.left_alone or left)
                case Later() as later:
                    raise NotYet(later.why)
                case (Patch() | Create() | Delete()) as wanted:
                    left = wanted.left_alone if isinstance(wanted, Patch) else ()
            try:
                await self._send(change.key, wanted)
                touched = True
            except KubeError as error:
                if _namespace_goes(error):
                    return Undone(gone=True)
                if not (error.conflict or error.exists or error.gone):
                    raise self._told(error, change.key, f"putting {change.key} back") from error
                await backoff.pause()
        raise NotYet(f"{change.key} could not be put back: {WRITTEN_MEANWHILE}")

    async def hold(self, change: Change, now: Json) -> bool:
        """Set a kept change back where others wrote over it. True if that took a request."""
        wanted = restoring.held(change, now, datetime.now(UTC))
        if isinstance(wanted, Nothing):
            return False
        try:
            await self._send(change.key, wanted)
        except KubeError as error:
            if not (error.conflict or error.gone):  # what came in between is told by the watch, too
                raise self._told(error, change.key, f"a change of {change.key}") from error
            return False
        return True

    async def _found(self, key: ObjectKey, what: str) -> Json | None:
        """As `read`; an answer that does not pass by itself is a refusal of what it is read for."""
        try:
            return await self.read(key)
        except KubeError as error:
            raise self._told(error, key, what) from error

    async def _found_back(self, change: Change) -> Json | None:
        """Where the namespace was made again the account sees nothing in it until the RoleBinding is there by which it
        does, and it may make that one unseen."""
        try:
            return await self._found(change.key, f"putting {change.key} back")
        except Refused as refused:
            if change.along and refused.reason == FORBIDDEN and change.key.kind == "RoleBinding":
                return None
            raise

    async def _rehearsed(self, key: ObjectKey, wanted: Request, what: str) -> Json:
        try:
            return await self._send(key, wanted, dry_run=True)
        except KubeError as error:
            if error.conflict or error.passing:
                raise
            raise self._told(error, key, what) from error

    async def _send(self, key: ObjectKey, wanted: Request, *, dry_run: bool = False) -> Json:
        resource = await self.resource(key)
        match wanted:
            case Patch():
                return await self._acting.patch(
                    resource, key.namespace, key.name, list(wanted.ops), content_type=JSON_PATCH, dry_run=dry_run
                )
            case Create():
                manager = ANEW if wanted.again else FIELD_MANAGER
                return await self._acting.create(resource, key.namespace, wanted.body, manager=manager, dry_run=dry_run)
            case Delete():
                how = PROPAGATION[wanted.dependents]
                return await self._acting.delete(
                    resource,
                    key.namespace,
                    key.name,
                    uid=wanted.uid,
                    version=wanted.version,
                    propagation=how,
                    dry_run=dry_run,
                )

    def _told(self, error: KubeError, key: ObjectKey, what: str) -> Exception:
        """What the API server's answer means; the error itself where asking again may help."""
        if error.passing:
            return _quiet(error, key)
        error = _quiet(error, key)
        known = refusal(error, self._account, what)
        if known is not None and ESCALATION in known.message:
            return Refused(known.field, known.reason, f"{known.message}; {MAY_GRANT}")
        return known or Refused("", error.reason or "NotChanged", f"the API server refuses {what}: {error.message}")


class NotYet(Exception):  # noqa: N818 - a state, not a defect
    """It cannot be put back yet: ask again."""


def _quiet(error: KubeError, key: ObjectKey) -> KubeError:
    """Without what a Secret may hold; missing rights are told in words that name no values."""
    if key.kind not in SECRET_KINDS or (error.status == 403 and " cannot " in error.message):
        return error
    return KubeError(error.status, error.reason, f"{error.status} {error.reason} (its words are left out)")


def _namespace_goes(error: KubeError) -> bool:
    causes = error.details.get("causes") or []
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
