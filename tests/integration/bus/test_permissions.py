"""What each login of the bus may do, it can; what a thief would do with it, the server refuses.

The attempts are derived from all subjects that there are, and what must work is written down by hand: a mistake in the
table of permissions can't excuse itself.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
import pytest
from faststream.nats import NatsRouter
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from odea_contracts import quota, subjects
from odea_contracts.bundles import BUNDLE_MAX
from odea_contracts.catalogue import ENDPOINTS, EVENTS, NOTICES
from odea_contracts.permissions import USERS
from odea_local.embedded import EmbeddedNats
from odea_runtime.bus import Bus
from odea_runtime.busadmin.nkeys import new_seed
from odea_runtime.serving import serve
from odea_runtime.settings import Settings, load
from odea_runtime.tasks import Tasks
from support.bususers import GUEST, PUBLIC_KEYS, SEEDS, is_let_in, is_let_in_with, logged_in
from support.waiting import round_trip, until

NAMES: Final = tuple(user.name for user in USERS)
HOLDS: Final = {f"odea.v1.quota.{verb}" for verb in ("reserve", "settle", "release", "extend", "write_off")}
REQUESTS: Final = {endpoint.subject: endpoint.queue for endpoint in ENDPOINTS} | {"odea.v1.synth.speak": "synth"}
OF_KEYS: Final = {subject for subject, queue in REQUESTS.items() if queue == "keys"}
OF_QUOTA: Final = {subject for subject, queue in REQUESTS.items() if queue == "quota"}
OF_SYNTH: Final = {subject for subject, queue in REQUESTS.items() if queue == "synth"}
CALLS: Final = {
    "gateway": OF_KEYS | (OF_QUOTA - HOLDS) | OF_SYNTH,
    "operator": OF_KEYS | (OF_QUOTA - HOLDS) | {"odea.v1.synth.requests_list"},
    "synth": HOLDS,
}
"""Who sends requests where; who is not here sends none."""
STREAMS: Final = {"gateway": "synth", "synth": "gateway"}
FOLLOWS: Final = {"quota": {"quota_tenants", "quota_keys"}}
each_user = pytest.mark.parametrize("user", NAMES)


@each_user
async def test_it_asks_whom_it_has_to_and_nobody_else(url: str, user: str) -> None:
    async with logged_in(url, user) as thief:
        for subject in REQUESTS:
            refused = await thief.refused_to_publish(subject, reply=f"{subjects.inbox_prefix(user)}.x")
            assert refused is (subject not in CALLS.get(user, set())), subject


@each_user
async def test_it_answers_what_is_its_own_and_only_among_its_replicas(url: str, user: str) -> None:
    async with logged_in(url, user) as thief:
        for subject, queue in REQUESTS.items():
            assert await thief.refused_to_listen(subject, queue) is (queue != user), subject
            assert await thief.refused_to_listen(subject), f"{subject} without its queue group"
            assert await thief.refused_to_listen(subject, "another"), f"{subject} in another group"


@each_user
@pytest.mark.parametrize("everything", [">", "odea.>", "odea.v1.*.*", "*.*.*.*", "_INBOX.>", "*.>", "$JS.>", "$SYS.>"])
async def test_it_can_not_listen_to_everything(url: str, user: str, everything: str) -> None:
    async with logged_in(url, user) as thief:
        assert await thief.refused_to_listen(everything)


@each_user
async def test_it_tells_events_in_its_own_name_alone(url: str, user: str) -> None:
    told = [*EVENTS, *NOTICES, *(subjects.dead_letters(name) for name in NAMES)]
    own = {subject for subject in (*EVENTS, *NOTICES) if subject.startswith(f"odea.v1.{user}.")}
    if user in FOLLOWS:
        own.add(subjects.dead_letters(user))
    async with logged_in(url, user) as thief:
        for subject in told:
            assert await thief.refused_to_publish(subject) is (subject not in own), subject


@each_user
async def test_it_hears_no_events_but_by_its_consumers(url: str, user: str) -> None:
    async with logged_in(url, user) as thief:
        for subject in (*EVENTS, subjects.SUBJECTS_EVENTS, "odea.v1.keys.evt.>"):
            assert await thief.refused_to_listen(subject), subject
        for subject in NOTICES:
            assert await thief.refused_to_listen(subject) is (user != "gateway"), subject


@each_user
async def test_inboxes_and_streams_are_private(url: str, user: str) -> None:
    async with logged_in(url, user) as thief:
        for other in NAMES:
            inbox, stream = f"{subjects.inbox_prefix(other)}.x.y", f"{subjects.streams_prefix(other)}.x.y"
            assert await thief.refused_to_listen(inbox) is (other != user)
            assert await thief.refused_to_publish(inbox), f"{user} forges replies to {other}"
            assert await thief.refused_to_listen(stream) is (other != user or user not in STREAMS)
            assert await thief.refused_to_publish(stream) is (STREAMS.get(user) != other)


@each_user
async def test_it_has_no_say_over_the_stream_and_its_consumers(url: str, user: str) -> None:
    """Whoever makes a stream or a consumer says where the server delivers, so this is for the installer alone."""
    installs = user == "installer"
    api = "$JS.API"
    allowed = {f"{api}.STREAM.INFO.ODEA_EVENTS"} if user in {"keys", "quota", "synth", "installer"} else set()
    if installs:
        allowed |= {f"{api}.STREAM.{verb}.ODEA_EVENTS" for verb in ("CREATE", "UPDATE", "DELETE", "RESTORE")}
        allowed |= {f"{api}.CONSUMER.{verb}.ODEA_EVENTS.x" for verb in ("CREATE", "INFO")}
    if user == "backup":
        allowed.add(f"{api}.STREAM.SNAPSHOT.ODEA_EVENTS")
    for durable in FOLLOWS.get(user, set()):
        allowed |= {f"{api}.CONSUMER.INFO.ODEA_EVENTS.{durable}", f"{api}.CONSUMER.MSG.NEXT.ODEA_EVENTS.{durable}"}
        allowed.add(f"$JS.ACK.ODEA_EVENTS.{durable}.1.1.1.1.1")
    if installs:
        allowed |= {f"{api}.CONSUMER.INFO.ODEA_EVENTS.{durable}" for durable in FOLLOWS["quota"]}
    verbs = (
        "INFO",
        "CREATE",
        "UPDATE",
        "DELETE",
        "PURGE",
        "SNAPSHOT",
        "RESTORE",
        "MSG.GET",
        "MSG.DELETE",
        "LEADER.STEPDOWN",
    )
    attempts = [f"{api}.STREAM.{verb}.{stream}" for verb in verbs for stream in ("ODEA_EVENTS", "OTHER")]
    for verb in ("INFO", "CREATE", "DELETE", "MSG.NEXT", "PAUSE", "LEADER.STEPDOWN", "DURABLE.CREATE"):
        attempts += [f"{api}.CONSUMER.{verb}.ODEA_EVENTS.{name}" for name in ("x", "quota_tenants", "quota_keys")]
    attempts += [f"{api}.{verb}" for verb in ("INFO", "STREAM.NAMES", "STREAM.LIST", "ACCOUNT.PURGE.$G")]
    attempts += [f"{api}.DIRECT.GET.ODEA_EVENTS", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$KV.x.y", "$SRV.PING"]
    attempts += [f"$JS.ACK.ODEA_EVENTS.{name}.1.1.1.1.1" for name in ("quota_tenants", "quota_keys")]
    attempts += (pieces := ["$JS.SNAPSHOT.RESTORE.ODEA_EVENTS.x", "$JS.SNAPSHOT.ACK.ODEA_EVENTS.x.1.1"])
    allowed |= {piece for piece, owner in zip(pieces, ("installer", "backup"), strict=True) if owner == user}
    async with logged_in(url, user) as thief:
        for subject in attempts:
            # An empty body is refused by what lies behind it, should it get there.
            refused = await thief.refused_to_publish(subject, b"not json", f"{subjects.inbox_prefix(user)}.x")
            if not (installs and ".CONSUMER.CREATE." in subject):
                assert refused is (subject not in allowed), subject


@pytest.mark.parametrize("user", [name for name in NAMES if name != "installer"])
async def test_a_service_deletes_nothing_and_makes_nothing(url: str, user: str) -> None:
    """The same through the library, as a thief would: the stream is there afterwards, and no consumer more."""
    async with logged_in(url, user) as thief, logged_in(url, "installer") as installer:
        jetstream = thief.client.jetstream(timeout=0.3)
        config = ConsumerConfig(durable_name="spy", deliver_subject="odea.v1.quota.settle")
        for attempt in (
            jetstream.delete_stream(subjects.STREAM_EVENTS),
            jetstream.purge_stream(subjects.STREAM_EVENTS),
            jetstream.delete_consumer(subjects.STREAM_EVENTS, "quota_tenants"),
            jetstream.add_consumer(subjects.STREAM_EVENTS, config),
            jetstream.add_stream(name="SPY", subjects=["odea.v1.keys.>"]),
        ):
            with pytest.raises((nats.errors.Error, TimeoutError)) as refused:
                await attempt
            assert not isinstance(refused.value, nats.js.errors.APIError), "it got as far as JetStream"
        manager = installer.client.jetstream(timeout=5)
        assert (await manager.stream_info(subjects.STREAM_EVENTS)).state.consumer_count == len(FOLLOWS["quota"])


async def test_a_message_is_answered_as_often_as_it_may_hold_requests_and_only_by_whom_it_reached(url: str) -> None:
    """A reply needs no right to the caller's inboxes, and gives none."""
    inbox = f"{subjects.inbox_prefix('gateway')}.one.two"
    got: list[bytes] = []
    async with logged_in(url, "keys") as keys, logged_in(url, "gateway") as gateway, logged_in(url, "quota") as quota:

        async def answer(message: Msg) -> None:
            for number in range(BUNDLE_MAX + 5):
                await keys.client.publish(message.reply, b"%d" % number)

        async def note(message: Msg) -> None:
            got.append(message.data)

        await keys.client.subscribe("odea.v1.keys.verify", "keys", cb=answer)
        await gateway.client.subscribe(inbox, cb=note)
        await round_trip(keys.client)
        await gateway.client.publish("odea.v1.keys.verify", b"{}", reply=inbox)
        await until(lambda: len(got) == BUNDLE_MAX)
        assert await quota.refused_to_publish(inbox)
        assert await keys.refused_to_publish(inbox)
        await round_trip(gateway.client)
        assert got == [b"%d" % number for number in range(BUNDLE_MAX)]


async def test_requests_of_one_moment_are_all_answered_however_long_each_takes(url: str) -> None:
    """P9: also the last of them, by a service with no more rights than it has."""
    router, tasks, count = NatsRouter(), Tasks(100), 40

    async def release(message: quota.Release) -> quota.ReleaseReply:
        await asyncio.sleep(int(message.hold_id[-2:]) / 100)
        return quota.Released(hold_id=message.hold_id)

    serve(router, tasks, quota.RELEASE, release)
    async with bus_of(url, "quota", router), bus_of(url, "synth") as synth:
        asked = [quota.Release(hold_id=f"00000000-0000-0000-0000-0000000000{number:02}") for number in range(count)]
        replies = await asyncio.gather(*(synth.call(quota.RELEASE, one, timeout_s=5) for one in asked))
    assert [reply.hold_id for reply in replies if isinstance(reply, quota.Released)] == [one.hold_id for one in asked]


@asynccontextmanager
async def bus_of(url: str, user: str, *routers: NatsRouter) -> AsyncGenerator[Bus]:
    bus = Bus(load(Settings, {"ODEA_NATS_URL": url, "ODEA_NATS_SEED": SEEDS[user]}), user, *routers)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def test_a_guest_may_speak_and_follow_and_nothing_else(url: str) -> None:
    allowed = {*OF_SYNTH, "odea.v1.quota.usage"} - {"odea.v1.synth.requests_list"}
    own, synths = subjects.streams_prefix(GUEST), subjects.streams_prefix("synth")
    async with logged_in(url, GUEST) as guest, logged_in(url, "synth") as synth, logged_in(url, "quota") as quota:
        for subject, queue in REQUESTS.items():
            assert await guest.refused_to_publish(subject) is (subject not in allowed), subject
            assert await guest.refused_to_listen(subject, queue), subject
        for subject in (*EVENTS, *NOTICES):
            assert await guest.refused_to_publish(subject)
            assert await guest.refused_to_listen(subject)
        for durable in ("shop", "quota_keys"):
            following = f"$JS.API.CONSUMER.MSG.NEXT.ODEA_EVENTS.{durable}"
            assert await guest.refused_to_publish(following) is (durable != GUEST)
        assert not await guest.refused_to_listen(f"{own}.x")
        assert not await synth.refused_to_publish(f"{own}.x")
        assert not await guest.refused_to_publish(f"{synths}.x")
        assert await quota.refused_to_publish(f"{own}.x")
        assert await synth.refused_to_publish(f"{subjects.inbox_prefix(GUEST)}.x")
        assert await guest.refused_to_listen(f"{subjects.streams_prefix('gateway')}.x")


async def test_nobody_gets_in_without_a_seed_that_is_known(url: str) -> None:
    assert await is_let_in(url, SEEDS["quota"])
    assert not await is_let_in(url, new_seed())


@pytest.mark.parametrize(
    "login", [{}, {"user": "odea", "pass": "odea"}, {"nkey": PUBLIC_KEYS["quota"][0]}, {"auth_token": "odea"}]
)
async def test_nobody_gets_in_by_another_way(url: str, login: dict[str, str]) -> None:
    """The public key alone is worth nothing."""
    assert not await is_let_in_with(url, lambda _: login)


def test_the_server_knows_no_seed(server: EmbeddedNats) -> None:
    config = (server.folder / "nats.conf").read_bytes()
    users = msgspec.json.decode(config)["authorization"]["users"]
    assert [user["nkey"][0] for user in users] == ["U"] * len(SEEDS)
    assert not [seed for seed in SEEDS.values() if seed.encode() in config]
