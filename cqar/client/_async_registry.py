"""The write and admin surface for event loops: `Registry` and `Admin`, whose methods are awaited.

Parameters, answers and errors are the same. A list is an asynchronous iterator: `async for asset in client.registry.list_assets()`
fetches page after page. Each call runs in one of the client's threads; one that is cancelled before it began is not made, one that
is under way may be done or not, as when a connection breaks: repeat it with the same `request_id`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from cqar.client._admin import PAGE as ADMIN_PAGE
from cqar.client._admin import Admin
from cqar.client._registry import Registry
from cqar.client._registry_base import PAGE

P = ParamSpec("P")
T = TypeVar("T")


class _Proxy:
    """Runs the methods of a surface in threads."""

    def __init__(self, surface: Any, run: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._surface, self._run = surface, run


def _awaited(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[_Proxy, P], Coroutine[Any, Any, T]]:
    """Give a method as one to await."""

    @functools.wraps(method)
    async def run(self: _Proxy, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = await self._run(method, self._surface, *args, **kwargs)
        return answer

    return run


def _iterated(
    method: Callable[Concatenate[Any, P], Iterator[T]], at_once: int = PAGE
) -> Callable[Concatenate[_Proxy, P], AsyncIterator[T]]:
    """Give a list as an asynchronous iterator, which goes to a thread for each page."""

    @functools.wraps(method)
    def run(self: _Proxy, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return _pages(self._run, method(self._surface, *args, **kwargs), at_once)

    return run


async def _pages(
    in_thread: Callable[..., Coroutine[Any, Any, Any]], source: Iterator[T], at_once: int
) -> AsyncIterator[T]:
    while True:
        page, error = await in_thread(_take, source, at_once)
        for item in page:
            yield item
        if error is not None:
            raise error
        if len(page) < at_once:
            return


def _take(source: Iterator[T], most: int) -> tuple[list[T], Exception | None]:
    """Take up to so many, and what ended it before its end: what came before shall not be lost."""
    taken: list[T] = []
    try:
        for _ in range(most):
            taken.append(next(source))  # noqa: PERF401  (what was taken before an error counts)
    except StopIteration:
        pass
    except Exception as error:  # noqa: BLE001  (it is for the caller)
        return taken, error
    return taken, None


class AsyncRegistry(_Proxy):
    """Everything that the server can do."""

    create_asset = _awaited(Registry.create_asset)
    get_asset = _awaited(Registry.get_asset)
    update_asset = _awaited(Registry.update_asset)
    delete_asset = _awaited(Registry.delete_asset)
    list_assets = _iterated(Registry.list_assets)
    search_assets = _iterated(Registry.search_assets)
    create_asset_deployment = _awaited(Registry.create_asset_deployment)
    update_asset_deployment = _awaited(Registry.update_asset_deployment)
    delete_asset_deployment = _awaited(Registry.delete_asset_deployment)
    get_asset_deployment = _awaited(Registry.get_asset_deployment)
    list_asset_deployments = _iterated(Registry.list_asset_deployments)
    create_asset_identifier = _awaited(Registry.create_asset_identifier)
    update_asset_identifier = _awaited(Registry.update_asset_identifier)
    move_asset_identifier = _awaited(Registry.move_asset_identifier)
    delete_asset_identifier = _awaited(Registry.delete_asset_identifier)
    get_asset_identifier = _awaited(Registry.get_asset_identifier)
    list_asset_identifiers = _iterated(Registry.list_asset_identifiers)

    create_asset_relationship = _awaited(Registry.create_asset_relationship)
    get_asset_relationship = _awaited(Registry.get_asset_relationship)
    update_asset_relationship = _awaited(Registry.update_asset_relationship)
    delete_asset_relationship = _awaited(Registry.delete_asset_relationship)
    list_asset_relationships = _iterated(Registry.list_asset_relationships)
    list_asset_variants = _iterated(Registry.list_asset_variants)
    create_asset_group = _awaited(Registry.create_asset_group)
    update_asset_group = _awaited(Registry.update_asset_group)
    delete_asset_group = _awaited(Registry.delete_asset_group)
    get_asset_group = _awaited(Registry.get_asset_group)
    list_asset_groups = _iterated(Registry.list_asset_groups)
    add_asset_to_group = _awaited(Registry.add_asset_to_group)
    update_group_member = _awaited(Registry.update_group_member)
    remove_asset_from_group = _awaited(Registry.remove_asset_from_group)
    list_asset_group_members = _iterated(Registry.list_asset_group_members)
    raise_quality_flag = _awaited(Registry.raise_quality_flag)
    resolve_quality_flag = _awaited(Registry.resolve_quality_flag)
    get_quality_flag = _awaited(Registry.get_quality_flag)
    list_quality_flags = _iterated(Registry.list_quality_flags)

    create_chain = _awaited(Registry.create_chain)
    update_chain = _awaited(Registry.update_chain)
    get_chain = _awaited(Registry.get_chain)
    list_chains = _iterated(Registry.list_chains)
    create_venue = _awaited(Registry.create_venue)
    update_venue = _awaited(Registry.update_venue)
    get_venue = _awaited(Registry.get_venue)
    list_venues = _iterated(Registry.list_venues)
    list_venue_assets = _iterated(Registry.list_venue_assets)
    list_asset_venues = _iterated(Registry.list_asset_venues)
    create_venue_symbol = _awaited(Registry.create_venue_symbol)
    update_venue_symbol = _awaited(Registry.update_venue_symbol)
    delete_venue_symbol = _awaited(Registry.delete_venue_symbol)
    get_venue_symbol = _awaited(Registry.get_venue_symbol)
    list_venue_symbols = _iterated(Registry.list_venue_symbols)

    resolve = _awaited(Registry.resolve)
    resolve_many = _awaited(Registry.resolve_many)
    check_tradable = _awaited(Registry.check_tradable)
    upsert_records = _awaited(Registry.upsert_records)
    upsert_stream = _iterated(Registry.upsert_stream, 1)


class AsyncAdmin(_Proxy):
    """Tokens and audit of a server."""

    create_token = _awaited(Admin.create_token)
    list_tokens = _iterated(Admin.list_tokens, ADMIN_PAGE)
    revoke_token = _awaited(Admin.revoke_token)
    list_audit_entries = _iterated(Admin.list_audit_entries, ADMIN_PAGE)
