"""Where a plan's orders are carried out: found once, at the start, one place for all orders of a pod."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bounceback.drivers import Notes, Refused, Site, driver, looker, site, targets
from bounceback.drivers.leftovers import left
from bounceback.drivers.targets import Target
from bounceback.types.inside import InsideAct
from bounceback.types.plan import ApiRules, Order, Plan


def find(plan: Plan) -> dict[str, Target | Refused]:
    """By pod UID: the place, or why there is none."""
    places: dict[str, Target | Refused] = {}
    for order in plan.orders:
        if order.pod_uid not in places:
            places[order.pod_uid] = _place(plan, order)
    return places


def _place(plan: Plan, order: Order) -> Target | Refused:
    if not plan.on_node or not order.pod_uid:  # without one it is about the node itself
        return targets.own()
    try:
        return targets.find(order.pod_uid, host_network=order.host_network)
    except Refused as refusal:
        return refusal


def undo(plan: Plan, order: Order, target: Target, notes: Notes) -> None:
    """What of it another agent left is gone afterwards. Raises KernelError, OSError."""
    driver(order.act).undo(order, replace(_site(plan, order, target), notes=notes))


def left_by(
    plan: Plan, order: Order, target: Target, in_force: Iterable[Order], notes: Notes | None = None
) -> list[str]:
    """What is left where `order` was, without what belongs to other orders there. Raises KernelError, OSError."""
    if isinstance(order.act, ApiRules | InsideAct):  # the network was never touched, and may not be asked
        return looker(order.act).left(order, replace(_site(plan, order, target), notes=notes or Notes()))
    others = [each for each in in_force if each.pod_uid == order.pod_uid and each.injection != order.injection]
    return left(target.netns, [(each, _site(plan, each, target)) for each in others])


def _site(plan: Plan, order: Order, target: Target) -> Site:
    return site(plan, order, target.netns, target.proc)
