"""Mail servers that are not ours: Postfix, Postfix's smtp-sink, Exim, each with a configuration and a queue of its own.

They run as root and hand their work to users of their own, so their folders are not pytest's, which are for root alone.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.peers import find_program, free_port, running
from tests.support.tls import Certificates

UNPACKED = Path(__file__).parents[2] / ".peers"
"""Where tests/peers.sh puts what cannot be installed beside Postfix."""


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mcmt-peer-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], bool], within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)  # files of another process have no event to wait for


def open_files() -> set[Path]:
    """Every file that some process has open: one that a server still writes is not a message yet."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return found


class Server(NamedTuple):
    """A running mail server."""

    port: int
    mail: Path
    """Where the messages lie that it took, one a file."""
    log: Path
    encrypted_port: int = 0
    """Postfix: takes no mail in clear here."""
    certificate_port: int = 0
    """Postfix: nor from a client without a certificate of our authority here."""

    @property
    def route(self) -> str:
        return f"smtp://localhost:{self.port}"

    def messages(self, count: int) -> list[bytes]:
        """Its messages in the order of their arrival, when there are *count*, lines as they lie there (LF)."""
        wait_for(lambda: len(self.messages_now()) >= count and not open_files().intersection(self.messages_now()))
        files = self.messages_now()
        assert len(files) == count, files
        return [file.read_bytes() for file in files]

    def messages_now(self) -> list[Path]:
        """The files of those that are there already."""
        return sorted(self.mail.iterdir(), key=lambda file: file.stat().st_mtime_ns) if self.mail.is_dir() else []


# -- smtp-sink --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def smtp_sink(*switches: str) -> Iterator[Server]:
    """Postfix's test server; it writes every transaction into a file of its own."""
    with public_folder() as folder:
        port = free_port()
        (folder / "mail").mkdir()
        command = [find_program("smtp-sink"), "-u", "root", "-d", f"{folder}/mail/m.", *switches]
        with running([*command, f"127.0.0.1:{port}", "100"], port, stderr=subprocess.DEVNULL):
            yield Server(port, folder / "mail", folder / "log")


# -- Postfix ----------------------------------------------------------------------------------------------------------

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = /tmp
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = inline:{{ {users} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_peername_lookup = no
smtpd_recipient_limit = {recipients}
smtpd_recipient_overshoot_limit = 1000
message_size_limit = 200000
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificates.server}
smtpd_tls_key_file = {certificates.server_key}
smtpd_tls_CAfile = {certificates.ca}
smtpd_tls_loglevel = 1
recipient_delimiter = +
smtputf8_enable = yes
{more}
"""
MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{encrypted_port} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
127.0.0.1:{certificate_port} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_tls_req_ccert=yes
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
error     unix - - n - - error
retry     unix - - n - - error
virtual   unix - n n - - virtual
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


@contextlib.contextmanager
def postfix(certificates: Certificates, *users: str, recipients: int = 1000, more: str = "") -> Iterator[Server]:
    """A whole Postfix that takes mail for *users* (local parts) of example.org, and for nobody else there."""
    account = pwd.getpwnam("postfix")
    with public_folder() as folder:
        port = free_port()
        for name in ("etc", "queue", "data", "mail"):
            (folder / name).mkdir()
        for name in ("data", "mail"):
            os.chown(folder / name, account.pw_uid, account.pw_gid)
        maps = ", ".join(f"{{ {user}@example.org = all/ }}" for user in users)
        (folder / "etc" / "main.cf").write_text(
            MAIN_CF.format(
                folder=folder,
                users=maps,
                uid=account.pw_uid,
                gid=account.pw_gid,
                recipients=recipients,
                certificates=certificates,
                more=more,
            )
        )
        others = free_port(), free_port()
        (folder / "etc" / "master.cf").write_text(
            MASTER_CF.format(port=port, encrypted_port=others[0], certificate_port=others[1])
        )
        command = [find_program("postfix"), "-c", str(folder / "etc")]
        with (folder / "out").open("wb") as out:
            try:
                with running([*command, "start-fg"], port, stdout=out, stderr=out, start_new_session=True):
                    yield Server(port, folder / "mail" / "all" / "new", folder / "log", *others)
            finally:
                subprocess.run([*command, "abort"], check=False, capture_output=True)


# -- Exim -------------------------------------------------------------------------------------------------------------

EXIM_CONF = """
exim_path = {program}
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
primary_hostname = exim.example.org
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
acl_smtp_rcpt = rcpt
acl_smtp_data = data
tls_advertise_hosts =
host_lookup =
rfc1413_hosts =
recipients_max = {recipients}
message_size_limit = 200000
begin acl
rcpt:
  deny local_parts = nobody
       message = no such user
  defer local_parts = later
       message = come again
  accept
data:
  deny condition = ${{if match{{$h_subject:}}{{spam}}}}
       message = we do not want this
  accept
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  user = Debian-exim
  group = Debian-exim
"""


EXIM_CLIENT_CONF = """
exim_path = {program}
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
primary_hostname = exim.example.org
begin routers
next:
  driver = manualroute
  route_list = * 127.0.0.1::{port}
  self = send
  transport = next
begin transports
next:
  driver = smtp
  allow_localhost
"""


class EximClient(NamedTuple):
    """An Exim that hands on what it is given."""

    command: list[str]
    """Takes a message on standard input; the recipients are its further arguments. Ends when it is delivered."""
    environment: dict[str, str]
    log: Path


@contextlib.contextmanager
def exim_client(port: int) -> Iterator[EximClient]:
    """It delivers to *port* of this machine, in chunks where they are offered."""
    program, environment = _exim()
    account = pwd.getpwnam("Debian-exim")
    with public_folder() as folder:
        conf = folder / "exim.conf"
        conf.write_text(EXIM_CLIENT_CONF.format(folder=folder, port=port, program=program))
        (folder / "spool").mkdir()
        for each in (folder / "spool", folder):
            os.chown(each, account.pw_uid, account.pw_gid)
        yield EximClient([str(program), "-C", str(conf), "-odf"], environment, folder / "mainlog")


def _exim() -> tuple[Path, dict[str, str]]:
    """The program, and the environment that it needs."""
    program = UNPACKED / "exim4" / "usr" / "sbin" / "exim4"
    if not program.exists():
        program = Path(find_program("exim4"))
    libraries = UNPACKED / "exim4" / "usr" / "lib" / "x86_64-linux-gnu"
    return program, {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


@contextlib.contextmanager
def exim(*, recipients: int = 50000) -> Iterator[Server]:
    """A whole Exim that takes everything, but for the local parts ``nobody`` and ``later`` and for spam."""
    program, environment = _exim()
    account = pwd.getpwnam("Debian-exim")
    with public_folder() as folder:
        port = free_port()
        conf = folder / "exim.conf"
        conf.write_text(EXIM_CONF.format(folder=folder, port=port, program=program, recipients=recipients))
        for name in ("spool", "mail"):
            (folder / name).mkdir()
            os.chown(folder / name, account.pw_uid, account.pw_gid)
        os.chown(folder, account.pw_uid, account.pw_gid)
        with (folder / "out").open("wb") as out:
            command = [str(program), "-C", str(conf), "-bdf", "-q1h"]
            with running(command, port, env=environment, stdout=out, stderr=out, start_new_session=True) as process:
                yield Server(port, folder / "mail" / "new", folder / "mainlog")
                # Those that deliver outlive the daemon, and would write into a folder that is no more.
                wait_for(lambda: not any((folder / "spool").glob("input/*")))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
