"""What ``/metrics`` says: the event log's counts, and how the engine fares now.

Rules: a domain is a label only while Tally counts it by name, all others together are ``other``; nothing else that
comes from outside is a label. What the engine cannot say at the moment is left out, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

import mcmt
from mcmt.config.settings import Settings
from mcmt.control.protocol import DomainStatus, EngineStatus
from mcmt.eventlog.tally import DomainTally, Histogram, Tally
from mcmt.intake.sources import SourceStatus, is_connected
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.message.event import DOORS
from mcmt.monitor.exposition import Exposition, Type
from mcmt.telemetry.status import TelemetryStatus
from mcmt.webhooks.status import WebhookStatus

STATES = ("up", "down", "suspended", "throttled", "curfew", "idle", "other")
"""Of a domain's route: ``suspended`` whatever suspended it, ``other`` where no stanza names the domain any more."""

_OF_TUBES: Sequence[tuple[str, Type, str, Callable[[SourceStatus], int]]] = (
    ("mcmt_beanstalkd_connected", "gauge", "1: the server gives jobs of the tube.", lambda one: int(is_connected(one))),
    ("mcmt_beanstalkd_reserved_jobs", "gauge", "Jobs that are ours at this moment.", lambda one: one.reserved),
    ("mcmt_beanstalkd_taken_jobs_total", "counter", "Jobs that were kept.", lambda one: one.taken),
    (
        "mcmt_beanstalkd_repeated_jobs_total",
        "counter",
        "Jobs that came again, and were deleted.",
        lambda one: one.repeated,
    ),
    ("mcmt_beanstalkd_buried_jobs_total", "counter", "Jobs that were set aside.", lambda one: one.buried),
)
_ALWAYS: Mapping[str, Sequence[str]] = {"class": ("4xx", "5xx")}


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What is known without asking the engine."""

    started: float
    """When, seconds since the epoch."""
    workers: int
    """That there should be."""
    workers_up: int
    restarts: int
    sessions: int
    free: int | None
    """Bytes that are free where the spool is; None: it cannot be looked at."""
    min_free: int
    logs_failing: int
    doors: tuple[str, ...] = ()
    """Those that are told of before anything has come by them."""


def state_of(domain: DomainStatus) -> str:
    """Which of STATES it is in."""
    word = domain.state.partition(" ")[0]
    return word if word in STATES else "other"


def doors_of(settings: Settings) -> tuple[str, ...]:
    """The doors that there are, by their words in the logs."""
    there = {
        "esmtp": settings.listen,
        "http": settings.http.listen,
        "apns": settings.gateways,
        "pyapns": settings.pyapns,
        "propeller": settings.propeller,
        "beanstalkd": settings.beanstalkd,
        "xmpp": settings.xmpp,
    }
    return tuple(door for door in DOORS if there.get(door))


def render(vitals: Vitals, tally: Tally, engine: EngineStatus | None, domains: Sequence[DomainStatus]) -> bytes:
    """The page. *engine* None: it did not answer in time, or not in full."""
    page = Exposition()
    _vitals(page, vitals, complete=engine is not None)
    with tally.lock:
        _counts(page, tally, vitals.doors)
    if engine is not None:
        _engine(page, engine)
        _domains(page, tally, domains)
        if engine.sources:
            _tubes(page, engine.sources)
        if engine.components:
            _components(page, engine.components)
        if engine.webhooks:
            _webhooks(page, engine.webhooks)
        if engine.telemetry is not None:
            _telemetry(page, engine.telemetry)
    return page.render()


def _gauge(page: Exposition, name: str, text: str, value: float) -> None:
    page.family(name, "gauge", text)
    page.sample(name, value)


def _vitals(page: Exposition, vitals: Vitals, *, complete: bool) -> None:
    page.family("mcmt_info", "gauge", "The version that runs.")
    page.sample("mcmt_info", 1, {"version": mcmt.__version__})
    _gauge(page, "mcmt_start_time_seconds", "When the engine was started, since the epoch.", vitals.started)
    text = "1: what the engine holds is in this page. 0: it did not answer, and its gauges are left out."
    _gauge(page, "mcmt_status_complete", text, int(complete))
    _gauge(page, "mcmt_workers", "Processes that should deliver.", vitals.workers)
    _gauge(page, "mcmt_workers_up", "Processes that deliver.", vitals.workers_up)
    page.family("mcmt_worker_restarts_total", "counter", "Workers that ended and were started again.")
    page.sample("mcmt_worker_restarts_total", vitals.restarts)
    _gauge(page, "mcmt_sessions", "SMTP clients connected.", vitals.sessions)
    if vitals.free is not None:
        _gauge(page, "mcmt_spool_free_bytes", "Bytes free where the spool is.", vitals.free)
    _gauge(page, "mcmt_spool_min_free_bytes", "Below so many bytes free nothing is accepted.", vitals.min_free)
    _gauge(page, "mcmt_logs_failing", "Log files that the system refuses to write.", vitals.logs_failing)


def _counts(page: Exposition, tally: Tally, doors: Sequence[str]) -> None:
    domains = tally.domains
    page.family("mcmt_receptions_total", "counter", "Recipients accepted.")
    _each(page, "mcmt_receptions_total", {name: one.receptions for name, one in domains.items()})
    page.family("mcmt_deliveries_accepted_total", "counter", "Deliveries that the accepted recipients became.")
    _each(page, "mcmt_deliveries_accepted_total", {name: one.accepted for name, one in domains.items()})
    page.family("mcmt_delivered_total", "counter", "Deliveries that arrived (D lines).")
    _each(page, "mcmt_delivered_total", {name: one.delivered for name, one in domains.items()})
    page.family("mcmt_transient_failures_total", "counter", "Attempts that failed for now (T lines), by class of code.")
    _split(page, "mcmt_transient_failures_total", "class", [(n, one.transient) for n, one in domains.items()])
    page.family("mcmt_permanent_failures_total", "counter", "Deliveries that failed for good (P lines), by class.")
    _split(page, "mcmt_permanent_failures_total", "class", [(n, one.permanent) for n, one in domains.items()])
    page.family("mcmt_route_news_total", "counter", "News of routes (N lines), by the word: down, up, suspended ...")
    _split(page, "mcmt_route_news_total", "news", [(n, one.route) for n, one in domains.items()])
    page.family("mcmt_tokens_gone_total", "counter", "Device tokens that a gateway called gone (G lines).")
    _each(page, "mcmt_tokens_gone_total", {name: one.tokens_gone for name, one in domains.items()})
    page.family("mcmt_rejections_total", "counter", "What was refused at a door (J lines), by code.")
    for code, count in sorted(tally.rejections.items()):
        page.sample("mcmt_rejections_total", count, {"code": code})
    for name, text, by_door in (
        ("mcmt_door_receptions_total", "Recipients accepted, by door.", tally.receptions_by_door),
        ("mcmt_door_rejections_total", "What was refused at a door.", tally.rejections_by_door),
    ):
        page.family(name, "counter", text)
        _labelled(page, name, "door", {door: by_door[door] for door in sorted({*doors, *by_door})})
    page.family("mcmt_quarantines_total", "counter", "Rows of the spool that could not be read (Q lines).")
    page.sample("mcmt_quarantines_total", tally.quarantined)
    page.family("mcmt_delay_seconds", "histogram", "From the reception to the final answer.")
    _histograms(page, "mcmt_delay_seconds", domains, {name: one.delay for name, one in domains.items()})
    page.family("mcmt_wire_seconds", "histogram", "From the request to the gateway's answer.")
    _histograms(page, "mcmt_wire_seconds", domains, {name: one.wire for name, one in domains.items()})


def _engine(page: Exposition, engine: EngineStatus) -> None:
    _gauge(page, "mcmt_resident_deliveries", "Deliveries in memory.", engine.resident)
    _gauge(page, "mcmt_quarantined_rows", "Rows of the spool in quarantine.", engine.quarantined)
    _gauge(page, "mcmt_outbox_lag_seconds", "How long the oldest event has waited for its line.", engine.outbox_lag)
    text = "1: the spool refuses what became of deliveries, and nothing is sent."
    _gauge(page, "mcmt_spool_stuck", text, int(engine.stuck))


def _webhooks(page: Exposition, webhooks: Sequence[WebhookStatus]) -> None:
    """Their names are the configuration's."""
    page.family("mcmt_webhook_up", "gauge", "0: the last request failed, or the webhook is switched off.")
    _labelled(page, "mcmt_webhook_up", "webhook", {one.name: int(one.state == "up") for one in webhooks})
    for name, text, attribute in (
        ("mcmt_webhook_queued_events", "Events that wait for the receiver.", "events"),
        ("mcmt_webhook_queued_bytes", "Bytes of events that wait for the receiver.", "bytes"),
        ("mcmt_webhook_oldest_event_age_seconds", "Of the oldest event that is being sent.", "oldest"),
    ):
        page.family(name, "gauge", text)
        _labelled(page, name, "webhook", {one.name: getattr(one, attribute) for one in webhooks})
    for name, text, attribute in (
        ("mcmt_webhook_sent_events_total", "Events that the receiver has taken, ever.", "sent"),
        ("mcmt_webhook_dropped_events_total", "Events dropped past max_queue_size, ever.", "dropped"),
        ("mcmt_webhook_failures_total", "Requests that failed.", "failures"),
    ):
        page.family(name, "counter", text)
        _labelled(page, name, "webhook", {one.name: getattr(one, attribute) for one in webhooks})


def _tubes(page: Exposition, sources: Sequence[SourceStatus]) -> None:
    """Their names are the configuration's, and so are those of components."""
    for name, kind, text, value in _OF_TUBES:
        page.family(name, kind, text)
        for one in sources:
            page.sample(name, value(one), {"server": one.address, "tube": one.name})


def _components(page: Exposition, components: Sequence[Attachment]) -> None:
    page.family("mcmt_xmpp_connected", "gauge", "1: the XMPP server has accepted the component.")
    _labelled(page, "mcmt_xmpp_connected", "component", {one.jid: int(one.connected) for one in components})
    counted = {one.jid: one.registrations for one in components if one.registrations is not None}
    page.family("mcmt_xmpp_registrations", "gauge", "Devices that are registered with the component.")
    _labelled(page, "mcmt_xmpp_registrations", "component", counted)


def _telemetry(page: Exposition, telemetry: TelemetryStatus) -> None:
    _gauge(page, "mcmt_opentelemetry_up", "0: the last request failed.", int(telemetry.state == "up"))
    _gauge(page, "mcmt_opentelemetry_queued_spans", "Spans that wait for the collector.", telemetry.waiting)
    for name, text, value in (
        ("mcmt_opentelemetry_sent_spans_total", "Spans that the collector has taken.", telemetry.sent),
        ("mcmt_opentelemetry_dropped_spans_total", "Spans dropped past max_queued_spans.", telemetry.dropped),
        ("mcmt_opentelemetry_lost_spans_total", "Spans sent in vain.", telemetry.lost),
    ):
        page.family(name, "counter", text)
        page.sample(name, value)


def _labelled(page: Exposition, name: str, label: str, values: Mapping[str, float]) -> None:
    for word, value in values.items():
        page.sample(name, value, {label: word})


def _domains(page: Exposition, tally: Tally, domains: Sequence[DomainStatus]) -> None:
    named: dict[str, list[DomainStatus]] = {}
    for domain in domains:
        named.setdefault(tally.name_of(domain.domain), []).append(domain)
    for name, text, attribute in (
        ("mcmt_queued_deliveries", "Deliveries in the spool.", "queued"),
        ("mcmt_ready_deliveries", "Deliveries in memory that wait for room on a connection.", "ready"),
        ("mcmt_on_hold_deliveries", "Deliveries held by hand.", "on_hold"),
        ("mcmt_held_deliveries", "Deliveries whose refusal is not believed yet.", "held"),
        ("mcmt_in_flight_deliveries", "Deliveries on the wire, without an answer yet.", "in_flight"),
        ("mcmt_connections", "Connections to the route.", "connections"),
    ):
        page.family(name, "gauge", text)
        _each(page, name, {each: sum(getattr(one, attribute) for one in ones) for each, ones in named.items()})
    page.family("mcmt_queued_priority_deliveries", "gauge", "Deliveries in the spool, by the class of priority.")
    for each, ones in named.items():
        high, bulk = sum(one.high for one in ones), sum(one.bulk for one in ones)
        normal = sum(one.queued for one in ones) - high - bulk
        for word, value in (("high", high), ("normal", normal), ("bulk", bulk)):
            page.sample("mcmt_queued_priority_deliveries", value, {"domain": each, "priority": word})
    page.family("mcmt_oldest_message_age_seconds", "gauge", "Since the oldest queued delivery was received.")
    ages = {name: [one.oldest for one in ones if one.oldest is not None] for name, ones in named.items()}
    _each(page, "mcmt_oldest_message_age_seconds", {name: max(found) for name, found in ages.items() if found})
    page.family("mcmt_route_state", "gauge", "1 for the state that the domain is in; of other: how many domains.")
    for name, ones in named.items():
        states = [state_of(one) for one in ones]
        for state in STATES:
            page.sample("mcmt_route_state", states.count(state), {"domain": name, "state": state})


def _each(page: Exposition, name: str, values: Mapping[str, float]) -> None:
    for domain, value in values.items():
        page.sample(name, value, {"domain": domain})


def _split(page: Exposition, name: str, label: str, counts: Iterable[tuple[str, Mapping[str, int]]]) -> None:
    for domain, found in counts:
        # A counter that begins at its first event is one that no rate sees.
        for word in sorted({*_ALWAYS.get(label, ()), *found}):
            page.sample(name, found.get(word, 0), {"domain": domain, label: word})


def _histograms(
    page: Exposition, name: str, domains: Mapping[str, DomainTally], histograms: Mapping[str, Histogram]
) -> None:
    for domain in domains:
        one = histograms[domain]
        page.histogram(name, one.bounds, one.counts, one.sum, {"domain": domain})
