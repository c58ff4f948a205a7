# SPDX-License-Identifier: Apache-2.0
"""Declare and load the controller's settings: section `[hoaflow]` of `ryu-manager --config-file`.

Each is declared once, with type, default, bounds and help. Listening addresses and OpenFlow's TLS are Ryu's options.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from controller.core.demand import Install
from controller.core.flows import Action, Goto, Normal
from controller.core.pipeline import TABLES
from hoaflow.errors import HoaflowError
from hoaflow.etcd import options as etcd_options
from hoaflow.etcd.errors import EtcdAccessError
from hoaflow.logs import LogSettings
from hoaflow.logs.options import FORMATS, LEVELS

GROUP = "hoaflow"
LAST_TABLE = 254  # OFPTT_MAX
NAME = r"^[A-Za-z0-9._-]{1,64}$"

OPTIONS = (
    cfg.IntOpt(
        "first_table",
        default=0,
        min=0,
        max=250,
        help="Number of the first OpenFlow table; the others follow. If it is not 0, other applications' flows must"
        " lead there.",
    ),
    cfg.StrOpt(
        "classify_miss",
        default="NORMAL",
        regex=r"^(NORMAL|none|[0-9]{1,3})$",
        help="What the first table does with all other traffic: NORMAL, the number of a table to go to, or none to"
        " install no such flow.",
    ),
    cfg.FloatOpt(
        "agent_lease",
        default=10.0,
        min=1.0,
        max=300.0,
        help="Seconds that a router's tunnel agent may be silent before its traffic returns to the home agents.",
    ),
    cfg.FloatOpt(
        "acknowledge_within",
        default=3.0,
        min=0.1,
        max=60.0,
        help="Seconds that a tunnel agent has to change a tunnel before the binding's flows are withdrawn.",
    ),
    cfg.FloatOpt(
        "answer_within",
        default=5.0,
        min=0.1,
        max=300.0,
        help="Seconds that a switch has to answer before its connection is closed.",
    ),
    cfg.IntOpt(
        "switches_without_agent",
        default=256,
        min=1,
        help="Most switches connected at a time for which no tunnel agent has reported since the controller started."
        " Beyond, the one connected longest is disconnected; it may come back.",
    ),
    cfg.FloatOpt(
        "read_back_every",
        default=60.0,
        min=1.0,
        max=86400.0,
        help="Seconds between two readings of a switch's flow tables, which repair changes by others; at least a"
        " hundred times as long as the switch takes to tell them.",
    ),
    cfg.FloatOpt(
        "forget_after",
        default=600.0,
        min=1.0,
        max=86400.0 * 30,
        help="Seconds after which a home agent without bridge and bindings, or a router without switch and agent, is"
        " forgotten.",
    ),
    cfg.IntOpt(
        "changes_a_second",
        default=10,
        min=1,
        max=1000,
        help="Changes of one binding within a second that are followed. A binding that changes more often is held on"
        " the home agent's path until it calms down.",
    ),
    cfg.StrOpt(
        "install",
        default=Install.EVERYTHING.value,
        choices=[each.value for each in Install],
        help="Which bindings' flows a router has unless its agent says (hoaflow-router run --install): everything, or"
        " on-demand: of those alone whose packets it sees, from the first one on, which goes by the home agent.",
    ),
    cfg.FloatOpt(
        "idle_after",
        default=300.0,
        min=1.0,
        max=86400.0,
        help="Seconds without a packet after which an on-demand router gives up a binding's flows. Counters are looked"
        " at every read_back_every seconds, so it may take as much longer.",
    ),
    cfg.IntOpt(
        "longest_lease",
        default=60,
        min=1,
        max=3600,
        help="Longest lease that a bridge may ask for, in seconds: a failure goes unnoticed for that time at most.",
    ),
    cfg.IntOpt(
        "largest_body",
        default=32 * 1024 * 1024,
        min=1024,
        help="Largest request body in bytes; larger ones are answered 413.",
    ),
    cfg.FloatOpt(
        "request_timeout",
        default=30.0,
        min=1.0,
        max=300.0,
        help="Seconds that a REST client may be silent within a request, and that ?wait=active waits at the longest.",
    ),
    cfg.IntOpt(
        "event_buffer",
        default=10_000,
        min=100,
        max=1_000_000,
        help="Events that are kept for clients that connect again; up to a kilobyte of memory each.",
    ),
    cfg.IntOpt(
        "event_streams",
        default=100,
        min=0,
        max=5000,
        help="Clients that may follow the events at a time; further ones are answered 503.",
    ),
    cfg.FloatOpt(
        "event_heartbeat",
        default=15.0,
        min=0.1,
        max=30.0,
        help="Seconds without an event after which a client that follows the events gets a sign of life.",
    ),
    cfg.StrOpt(
        "log_format",
        default="text",
        choices=tuple(FORMATS),
        help="Form of the log's lines: text (key=value) or json.",
    ),
    cfg.StrOpt(
        "log_level",
        default="info",
        choices=LEVELS,
        help="Lowest level that hoaflow logs. Ryu's --default-log-level and --verbose are for libraries.",
    ),
    cfg.BoolOpt(
        "log_addresses",
        default=False,
        help="Whether to log subscribers' addresses. If not, each is replaced by a keyed hash above level debug.",
    ),
    cfg.StrOpt(
        "log_key",
        help="File with the secret of these hashes, 16 bytes or more, the same for all parts whose lines must match."
        " By default there is a new one at each start.",
    ),
    cfg.StrOpt(
        "tokens_file",
        help="File with the clients' tokens and the rights of each. Without it the REST API answers on this host only.",
    ),
    cfg.StrOpt("rest_certificate", help="The REST API's certificate, with its signers', in PEM, for TLS."),
    cfg.StrOpt("rest_key", help="The key of rest_certificate in PEM, not encrypted."),
    cfg.StrOpt(
        "rest_client_ca",
        help="Certificates of the signers of REST clients' certificates, in PEM. With it clients need a certificate"
        " besides their token.",
    ),
    cfg.ListOpt(
        "etcd",
        default=[],
        help="URLs of etcd's client ports, separated by commas, such as http://192.0.2.1:2379. With them this"
        " controller is a member of a cluster, which shares the routers; without, it is alone.",
    ),
    cfg.StrOpt(
        "cluster",
        default="hoaflow",
        regex=NAME,
        help="Name of the cluster, the same at all of its members; other clusters may use the same etcd.",
    ),
    cfg.StrOpt(
        "member",
        regex=NAME,
        help="Name of this controller, another one at each member. By default that of the host.",
    ),
    cfg.StrOpt("member_url", help="URL at which the other members, and bridges, reach this controller's REST API."),
    cfg.IntOpt(
        "member_lease",
        default=3,
        min=2,
        max=60,
        help="Seconds without a sign of life after which others take over this controller's routers. A longer time"
        " bears a slower etcd; gates last for the lease of their bridge (10 s by default).",
    ),
    cfg.StrOpt("etcd_ca", help="Certificates of the signers of etcd's, in PEM."),
    cfg.StrOpt("etcd_certificate", help="This controller's certificate as etcd's client, in PEM."),
    cfg.StrOpt("etcd_key", help="The key of etcd_certificate in PEM, not encrypted."),
    cfg.StrOpt(
        "etcd_user",
        help="User of etcd, whose role may read and write below /hoaflow/. etcd's gateway takes users from clients"
        " without a certificate only, or from those whose certificate has no common name.",
    ),
    cfg.StrOpt("etcd_password_file", help="File with the password of etcd_user."),
    cfg.StrOpt(
        "member_token_file",
        help="File with this controller's own token, which it shows the other members of its cluster; in their"
        " tokens_file it may `member`.",
    ),
    cfg.StrOpt("member_ca", help="Certificates of the signers of the other members' rest_certificate, in PEM."),
    cfg.StrOpt(
        "member_certificate",
        help="This controller's certificate as the other members' client, in PEM, if they have a rest_client_ca.",
    ),
    cfg.StrOpt("member_key", help="The key of member_certificate in PEM, not encrypted."),
    cfg.FloatOpt(
        "requests_per_second",
        default=5000.0,
        min=1.0,
        help="Requests that each client may make in a second: each token, or each address if there are no tokens."
        " Further ones are answered 429.",
    ),
    cfg.IntOpt(
        "requests_in_flight",
        default=256,
        min=1,
        help="Requests that each client may have under way at a time.",
    ),
    cfg.FloatOpt(
        "anonymous_requests_per_second",
        default=100.0,
        min=1.0,
        help="Requests that each address may make in a second without a valid token, if there are tokens.",
    ),
    cfg.IntOpt(
        "connections_per_client",
        default=256,
        min=1,
        help="Connections that each address may have at a time.",
    ),
)


class WrongSettings(HoaflowError):
    """The configuration can't be used; the message says which setting, what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings; names and meanings are those of `OPTIONS`."""

    first_table: int
    classify_miss: tuple[Action, ...] | None
    agent_lease: float
    acknowledge_within: float
    answer_within: float
    switches_without_agent: int
    read_back_every: float
    forget_after: float
    changes_a_second: int
    install: Install
    idle_after: float
    longest_lease: int
    largest_body: int
    request_timeout: float
    event_buffer: int
    event_streams: int
    event_heartbeat: float
    log_format: str
    log_level: str
    log_addresses: bool
    log_key: str | None
    tokens_file: str | None
    rest_certificate: str | None
    rest_key: str | None
    rest_client_ca: str | None
    etcd: list[str]
    cluster: str
    member: str | None
    member_url: str | None
    member_lease: int
    etcd_ca: str | None
    etcd_certificate: str | None
    etcd_key: str | None
    etcd_user: str | None
    etcd_password_file: str | None
    member_token_file: str | None
    member_ca: str | None
    member_certificate: str | None
    member_key: str | None
    requests_per_second: float
    requests_in_flight: int
    anonymous_requests_per_second: float
    connections_per_client: int

    @property
    def log(self) -> LogSettings:
        """Return the settings of the log."""
        key = None if self.log_key is None else Path(self.log_key)
        return LogSettings(self.log_format, self.log_level, self.log_addresses, key)


def load(conf: cfg.ConfigOpts) -> Settings:
    """Return the settings in the files of `conf`. Raises WrongSettings, also for an unknown setting."""
    conf.register_opts(OPTIONS, GROUP)
    known = {option.dest for option in OPTIONS}
    for path in conf.config_file or ():
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(path, sections).parse()
        for name in sections.get(GROUP, {}):
            if name not in known:
                expected = ", ".join(sorted(known))
                raise WrongSettings(f"{path}: [{GROUP}] has no setting {name!r}; it has {expected}")
    group = conf[GROUP]
    try:
        values = {name: group[name] for name in known}
    except cfg.ConfigFileValueError as error:
        raise WrongSettings(f"[{GROUP}] {error}") from None
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongSettings(f"[{GROUP}] {name}: expected a number, got {value}")
    if bool(values["rest_certificate"]) != bool(values["rest_key"]):
        raise WrongSettings(f"[{GROUP}] rest_certificate and rest_key go together: expected both or none")
    if values["rest_client_ca"] and not values["rest_certificate"]:
        raise WrongSettings(f"[{GROUP}] rest_client_ca: clients show certificates over TLS only: set rest_certificate")
    try:
        etcd_options.access(values)
    except EtcdAccessError as error:
        raise WrongSettings(f"[{GROUP}] {error}") from None
    for url in values["etcd"]:
        if not re.fullmatch(r"https?://[^/?#\s]+:\d+/?", url):
            raise WrongSettings(f"[{GROUP}] etcd: expected URLs such as http://192.0.2.1:2379, got {url!r}")
    miss = _classify_miss(values["classify_miss"], first_free=values["first_table"] + len(TABLES))
    return Settings(**{**values, "classify_miss": miss, "install": Install(values["install"])})


def _classify_miss(text: str, first_free: int) -> tuple[Action, ...] | None:
    if text == "none":
        return None
    if text == "NORMAL":
        return (Normal(),)
    if not first_free <= int(text) <= LAST_TABLE:
        raise WrongSettings(
            f"[{GROUP}] classify_miss: expected NORMAL, none or the number of a table after hoaflow's, from"
            f" {first_free} to {LAST_TABLE}, got {text}"
        )
    return (Goto(text),)
