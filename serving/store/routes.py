"""The endpoint that takes events."""

import asyncio

from fastapi import APIRouter, HTTPException

from serving.bodies import JSONRoute
from serving.errors import NotReady, Problems
from serving.routes import REFUSALS, TheNote, TheService
from serving.store.base import Appended, Store, StoreAway
from serving.store.events import EventReader, EventsAnswer, EventsRequest, user_key

SECONDS = 1.0
"""How long events wait for the store: nobody waits for their answer as for a ranking, but none may get lost."""

router = APIRouter(route_class=JSONRoute)

ANSWERS = {
    **REFUSALS,
    409: {"model": Problems, "description": "No feature store is configured."},
    503: {"model": Problems, "description": "No model is ready, or the feature store does not answer: try again."},
}


@router.post("/v1/events", responses=ANSWERS, tags=["feature store"])
async def events(body: EventsRequest, service: TheService, note: TheNote) -> EventsAnswer:
    """Add what a user did to the stored histories, so that the user's next ranking sees it."""
    if service.store is None:
        raise HTTPException(409, "no feature store is configured: set RECSYS_MTL_STORE")
    scorer = service.lineup.champion.get().scorer
    reader = EventReader(scorer.bundle.encoder.spec, scorer.reader.inputs)
    try:
        async with asyncio.timeout(SECONDS):
            appended = await append(service.store.store, reader, body)
    except (StoreAway, TimeoutError):
        raise NotReady("the feature store does not answer: events with an event_id can be sent again") from None
    return EventsAnswer(
        request_id=note.request_id, user_id=body.user_id, added=appended.added, duplicates=appended.duplicates
    )


async def append(store: Store, reader: EventReader, body: EventsRequest) -> Appended:
    """Look up what the events do not say of their items, and store them.

    Raises:
        RequestError: something is wrong with an event.
        StoreAway: the store does not answer.
    """
    asked = reader.asked(body.events)
    items = (await store.find(asked, {}))().items if asked else None
    return await store.append(user_key(body.user_id), reader.read(body.events, items), reader.lengths)
