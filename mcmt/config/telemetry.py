"""``opentelemetry``: where spans are sent to, read into TelemetrySettings."""

from __future__ import annotations

import re
import ssl
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from pydantic import Field

from mcmt.config.faults import Checker
from mcmt.config.schema import Count, Span
from mcmt.config.telemetry_settings import TelemetrySettings
from mcmt.config.webhooks import check_url
from mcmt.options import FilePath, OptionsModel

OPENTELEMETRY: Final = "opentelemetry"
_DEFAULT = {field.name: field.default for field in msgspec.structs.fields(TelemetrySettings)}
# RFC 9110 5.6.2 token, 5.5 field-value.
_is_field = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_value = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch
_OURS: Final = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", "host"})


class TelemetryStanza(OptionsModel):
    """``opentelemetry``"""

    SECRETS = frozenset({"headers"})

    endpoint: str
    headers: dict[str, str] = Field(default_factory=dict)
    tls_ca: FilePath | None = None
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = _DEFAULT["sample_ratio"]
    sampler: Literal["parentbased_traceidratio", "traceidratio"] = _DEFAULT["sampler"]
    resource: dict[str, str] = Field(default_factory=dict)
    compression: Literal["gzip", "none"] = _DEFAULT["compression"]
    batch_size: Annotated[int, Field(ge=1, le=4096)] = _DEFAULT["batch_size"]
    batch_wait: Span = _DEFAULT["batch_wait"]
    timeout: Span = _DEFAULT["timeout"]
    max_queued_spans: Count = _DEFAULT["max_queued_spans"]


def read_telemetry(checker: Checker, *, open_files: bool = True) -> TelemetrySettings | None:
    """What the stanza says; None where there is none. What is wrong is noted in *checker*."""
    if OPENTELEMETRY not in checker.data:
        return None
    stanza, _ = checker.stanza(TelemetryStanza, (OPENTELEMETRY,), checker.data[OPENTELEMETRY])
    if stanza is None:
        return None
    check_url(
        checker,
        (OPENTELEMETRY, "endpoint"),
        stanza.endpoint,
        example="http://127.0.0.1:4318/v1/traces",
        instead="what the collector wants of a client belongs into headers",
        leaves="the spans, and what stands in headers,",
    )
    for name, value in stanza.headers.items():
        path = (OPENTELEMETRY, "headers", name)
        if not _is_field(name) or name.lower() in _OURS:
            checker.fault(path, "expected the name of a header field such as authorization", key=True)
        elif not _is_value(value):
            checker.fault(path, "expected printable ASCII without spaces at either end")
    for name in stanza.resource:
        if not name:
            checker.fault((OPENTELEMETRY, "resource", name), "expected the name of an attribute", key=True)
    if open_files and stanza.tls_ca is not None:
        try:
            ssl.create_default_context(cafile=stanza.tls_ca)
        except ssl.SSLError:
            checker.fault((OPENTELEMETRY, "tls_ca"), f"{stanza.tls_ca} holds no certificate (PEM)")
        except OSError as error:
            checker.fault((OPENTELEMETRY, "tls_ca"), f"{stanza.tls_ca} cannot be read: {error.strerror}")
    values = dict(stanza)
    values |= {name: MappingProxyType(values[name]) for name in ("headers", "resource")}
    return TelemetrySettings(**values)
