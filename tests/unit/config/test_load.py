"""A file is read whole: everything that is wrong with it comes out in one run, each with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from channels.apn.options import Options
from mcmt.config.load import find_config, load
from mcmt.errors import ConfigError
from mcmt.options import OptionsModel
from tests.unit.config.support import DOMAIN, LISTENER, SPOOL, Configuration, channels


def test_all_faults_of_a_run_come_out_in_the_order_of_their_places(configuration: Configuration) -> None:
    text = """\
hostname: "not a name"
workers: 400
spool: {path: spool, min_free: much}
esmtp_listener:
  listen:
    "127.0.0.1:2525":
      mcmt_recption: allow
      max_message_size: 10 TB
    "::1:2525": {}
idle_timeout: no
retry_intervall: 7
domain:
  apn.example.com:
    delivery_method: apn
    routes: ["apn://api.push.apple.com", "http://example.com", "apn:"]
    tls_certificate: cert.pem
    tls_verify: maybe
    routes: []
  mail.example.com:
    delivery_method: fax
    routes: ["fax://127.0.0.1:25"]
apn_logger:
  one: {logfile: apn.ec, logmode: 9}
  two: {logfile: ./apn.ec, log_delivery_format: "%zz"}
"""

    def check_format(form: str) -> None:
        if "%zz" in form:
            raise ValueError("unknown macro %zz at column 1")

    assert configuration.faults(text, check_format) == [
        "mcmt.yaml:1:11: hostname: expected a host name such as mx.example.com, got 'not a name'",
        "mcmt.yaml:2:10: workers: must be at most 256, got 400",
        "mcmt.yaml:3:32: spool.min_free: expected a size such as 4096, 64KB, 10MB or 1GB, got 'much'",
        "mcmt.yaml:7:7: esmtp_listener.listen.127.0.0.1:2525.mcmt_recption: "
        "unknown option; did you mean mcmt_reception?",
        "mcmt.yaml:8:25: esmtp_listener.listen.127.0.0.1:2525.max_message_size: "
        "expected a size such as 4096, 64KB, 10MB or 1GB, got '10 TB'",
        'mcmt.yaml:9:5: esmtp_listener.listen.::1:2525: expected an address and a port such as "127.0.0.1:2525", '
        '"[::1]:2525" or ":2525" (every address)',
        "mcmt.yaml:10:15: idle_timeout: expected a duration such as 30, 30s or 500ms, got false or no",
        "mcmt.yaml:11:1: retry_intervall: unknown option; did you mean retry_interval?",
        "mcmt.yaml:15:42: domain.apn.example.com.routes.1: this domain's channel has routes with apn://, "
        "got 'http://example.com'",
        "mcmt.yaml:15:64: domain.apn.example.com.routes.2: expected scheme://host[:port], got 'apn:'",
        "mcmt.yaml:16:22: domain.apn.example.com.tls_certificate: cert.pem cannot be read: No such file or directory",
        "mcmt.yaml:17:17: domain.apn.example.com.tls_verify: expected 'no', 'ca' or 'host', got 'maybe'",
        "mcmt.yaml:18:5: domain.apn.example.com.routes: already given in line 15; keep one of the two",
        "mcmt.yaml:18:13: domain.apn.example.com.routes: needs at least 1 of them, got []",
        "mcmt.yaml:20:22: domain.mail.example.com.delivery_method: "
        "there is no channel 'fax' in this version; there are: apn, discard, smtp",
        "mcmt.yaml:23:35: apn_logger.one.logmode: expected a file mode in octal such as 0644, got 9",
        "mcmt.yaml:24:18: apn_logger.two.logfile: apn_logger.one.logfile already writes to apn.ec; "
        "give each its own file",
        "mcmt.yaml:24:49: apn_logger.two.log_delivery_format: unknown macro %zz at column 1",
    ]


def test_a_syntax_error_is_the_only_fault(configuration: Configuration) -> None:
    assert configuration.fault("spool: {path: x\nworkers: 7\n").startswith("mcmt.yaml:2:8: not valid YAML: ")


def test_an_empty_file_lacks_what_an_engine_needs(configuration: Configuration) -> None:
    assert configuration.faults("") == [
        "mcmt.yaml: domain: there is no domain, so no mail would be accepted; add one, as in the sample",
        "mcmt.yaml: esmtp_listener.listen: nothing takes messages: there is no address to listen on; add one such as "
        '"127.0.0.1:2525": {}, or another door: apns_gateway, beanstalkd, http_listener, propeller, pyapns, '
        "xmpp_component",
        "mcmt.yaml: spool.path: is missing",
    ]


def test_one_door_will_do_whichever(configuration: Configuration) -> None:
    token = f'tokens: {{shop: {{hash: "sha256:{"0" * 64}"}}}}'
    http = f'http_listener: {{listen: {{"127.0.0.1:8025": {{}}}}, {token}}}\n'
    for listener in ("", "esmtp_listener:\n", "esmtp_listener: {max_connections: 7}\n"):
        settings = configuration.load(SPOOL + DOMAIN + http + listener).settings
        assert not settings.listen
        assert [one.word for one in settings.addresses] == ["HTTP"]
    assert settings.intake.max_connections == 7
    assert len(configuration.faults(SPOOL + DOMAIN + "esmtp_listener: {max_connections: 7}\n")) == 1


def test_the_least_configuration_has_all_defaults(configuration: Configuration) -> None:
    loaded = configuration.load(SPOOL + LISTENER + DOMAIN)

    settings = loaded.settings
    assert loaded.warnings == ()
    assert settings.hostname == "host.example.com"
    assert settings.workers == 1
    assert settings.spool.path == configuration.folder / "spool"
    assert settings.control_socket == configuration.folder / "spool" / "control.sock"
    assert [log.logfile for log in settings.mainlog] == [configuration.folder / "spool" / "mainlog.ec"]
    assert settings.channel_loggers == ()
    assert settings.rejectlog == ()
    assert settings.domain("D.example.com".lower()) is settings.domains["d.example.com"]
    assert settings.domain("other.example.com") is None


def test_the_star_stands_for_every_other_domain(configuration: Configuration) -> None:
    star = 'domain: {"*": {delivery_method: discard, routes: ["discard://sink"]}}\n'
    settings = configuration.load(SPOOL + LISTENER + star).settings

    found = settings.domain("anything.example.org")
    assert found is not None
    assert found.name == "*"


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "mcmt.yaml").write_text(
        "spool: {path: ../spool}\ncontrol: {socket: /run/mcmt.sock}\n" + LISTENER + DOMAIN
    )
    monkeypatch.chdir(tmp_path)

    settings = load(Path("config/mcmt.yaml"), channels()).settings

    assert settings.spool.path == tmp_path / "spool"
    assert settings.control_socket == Path("/run/mcmt.sock")


def test_faults_name_the_file_as_the_user_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mcmt.yaml").write_text("wrkers: 1\n" + SPOOL + LISTENER + DOMAIN)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"^mcmt\.yaml:1:1: wrkers: unknown option; did you mean workers\?$"):
        load(Path("mcmt.yaml"), channels())


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load(tmp_path / "missing.yaml", channels())
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, channels())


def test_both_values_of_a_repeated_stanza_are_validated(configuration: Configuration) -> None:
    text = SPOOL + LISTENER + DOMAIN + "control: {sockt: a}\ncontrol: {socket: 5}\n"

    assert configuration.faults(text) == [
        "mcmt.yaml:4:11: control.sockt: unknown option; did you mean socket?",
        "mcmt.yaml:5:1: control: already given in line 4; keep one of the two",
        "mcmt.yaml:5:19: control.socket: expected a path, got 5",
    ]


def test_a_stanza_that_is_no_stanza_is_a_fault(configuration: Configuration) -> None:
    faults = configuration.faults("spool: here\nesmtp_listener: [1]\ndomain: yes\ncontrol: 5\napn_logger: x\n")
    for place in ("1:8: spool", "2:17: esmtp_listener", "3:9: domain", "4:10: control", "5:13: apn_logger"):
        assert any(fault.startswith(f"mcmt.yaml:{place}: expected options below it") for fault in faults), place


def test_a_channels_own_stanza_is_accepted_and_has_no_options(configuration: Configuration) -> None:
    configuration.load(SPOOL + LISTENER + DOMAIN + "apn: {}\ndiscard:\n")
    assert configuration.fault(SPOOL + LISTENER + DOMAIN + "apn: {enabled: true}\n") == (
        "mcmt.yaml:4:7: apn.enabled: this stanza has no options; a channel's options belong to its domains"
    )


def test_words_that_only_look_like_options_say_where_they_belong(configuration: Configuration) -> None:
    assert configuration.fault(SPOOL + LISTENER + DOMAIN + "mcmt_reception: allow\n") == (
        "mcmt.yaml:4:1: mcmt_reception: is not an option here; it belongs to an address below esmtp_listener.listen"
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("hostname: no", "expected text; put it in quotes, got false or no"),
        ("hostname:", "has no value; give it one or remove the line"),
        ("workers: 0", "must be at least 1, got 0"),
        ("workers: 010", "expected a whole number, got '010'"),
        ("max_deliveries_per_message: 1e3", "expected a whole number, got '1e3'"),
        ("max_resident_messages: 1.5", "expected a whole number, got 1.5"),
        ("drain_timeout: -1", "a duration cannot be negative or longer than 100 years, got -1"),
        ("generate_bounces: 1", "expected true or false, got 1"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_is_expected(configuration: Configuration, line: str, fault: str) -> None:
    assert configuration.fault(line + "\n" + SPOOL + LISTENER + DOMAIN).endswith(": " + fault)


def test_auto_is_one_worker_for_each_processor_that_this_process_may_use(configuration: Configuration) -> None:
    settings = configuration.load("workers: auto\n" + SPOOL + LISTENER + DOMAIN).settings
    assert settings.workers == len(os.sched_getaffinity(0))


def test_a_message_must_fit_into_one_workers_share_of_the_memory(configuration: Configuration) -> None:
    listener = LISTENER.replace("esmtp_listener: {", "esmtp_listener: {max_intake_bytes: 40MB, ")
    configuration.load("workers: 1\n" + SPOOL + listener + DOMAIN)
    fault = configuration.fault("workers: 2\n" + SPOOL + listener + DOMAIN)
    assert "max_intake_bytes is 41943040 for 2 workers, so that it would never fit" in fault


def test_the_control_sockets_name_has_a_limit_and_its_folder_has_none(configuration: Configuration) -> None:
    """A path over unix(7)'s 108 bytes goes by way of its folder: a warning about it would be a false one."""
    head = SPOOL + LISTENER + DOMAIN
    assert configuration.warnings(f"{head}control: {{socket: /{'x' * 120}/control.sock}}\n") == configuration.warnings(
        head
    )
    fault = configuration.fault(f"{head}control: {{socket: /{'x' * 65}}}\n")
    assert fault.startswith("mcmt.yaml:4:19: control.socket: the file's name is longer than 64 bytes")


def test_a_channel_whose_option_would_hide_one_of_ours_is_refused(configuration: Configuration) -> None:
    class Clash(OptionsModel):
        retry_interval: int = 5

    class Channel:
        Options = Clash
        MEDIA_TYPES: frozenset[str] = frozenset()
        SCHEMES = frozenset({"clash"})
        LOGGER = None

        def check(self, options: object, routes: object) -> tuple[()]:
            return ()

    configuration.file.write_text(SPOOL + LISTENER + DOMAIN)
    with pytest.raises(ConfigError, match="channel clash: retry_interval: mcmt has an option"):
        load(configuration.file, {**channels(), "clash": Channel()})


def test_files_are_left_alone_when_only_places_are_wanted(configuration: Configuration) -> None:
    domain = (
        "domain: {apn.example.com: {delivery_method: apn, routes: ['apn://api.push.apple.com'],"
        " tls_certificate: none.pem}}\n"
    )
    settings = configuration.load(SPOOL + LISTENER + domain, open_files=False).settings

    options = settings.domains["apn.example.com"].options
    # The channel was loaded by folder: its class is not that of an import.
    assert type(options).__name__ == Options.__name__
    assert options.tls_certificate == configuration.folder / "none.pem"


class TestFindConfig:
    """--config, then $MCMT_CONFIG, then config/mcmt.yaml, then /etc/mcmt/mcmt.yaml."""

    def test_the_command_line_comes_first(self, tmp_path: Path) -> None:
        named = tmp_path / "a.yaml"
        named.touch()
        assert find_config(named, {"MCMT_CONFIG": "elsewhere.yaml"}) == named

    def test_then_the_environment(self, tmp_path: Path) -> None:
        named = tmp_path / "a.yaml"
        named.touch()
        assert find_config(None, {"MCMT_CONFIG": str(named)}) == named

    def test_then_the_folder_config(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "mcmt.yaml").touch()
        assert find_config(None, {"MCMT_CONFIG": ""}) == Path("config/mcmt.yaml")

    def test_a_file_that_is_named_and_is_not_there_is_a_fault(self, tmp_path: Path) -> None:
        missing = tmp_path / "a.yaml"
        with pytest.raises(ConfigError, match=r"a\.yaml: there is no such file; --config names it"):
            find_config(missing, {})
        with pytest.raises(ConfigError, match=r"a\.yaml: there is no such file; \$MCMT_CONFIG names it"):
            find_config(None, {"MCMT_CONFIG": str(missing)})

    def test_none_at_all_lists_the_places_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=r"config/mcmt\.yaml nor /etc/mcmt/mcmt\.yaml: there is no such file"):
            find_config(None, {})
