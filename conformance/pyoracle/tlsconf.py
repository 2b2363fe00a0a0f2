"""TLS contexts of both sides, from the certificates beside the scenarios."""

import ssl

from .scenario import find_certificates

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def transport_context(scenario, server_side):
    """The transport's context, from the scenario's "tls"."""
    return _context(scenario, scenario.tls or {}, server_side)


def peer_context(scenario, server_side):
    """The peer's context, from the scenario's "peer_tls"."""
    return _context(scenario, scenario.peer_tls, server_side)


def _context(scenario, conf, server_side):
    certs = find_certificates(scenario.path)
    purpose = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(purpose)
    context.load_verify_locations(certs / "ca.pem")
    _load_own(context, certs, conf, server_side)
    _limit_versions(context, conf)
    if conf.get("alpn"):
        context.set_alpn_protocols(conf["alpn"])
    if server_side:
        # A ticket that the client has not read turns its close into a RST.
        context.num_tickets = 0
    if server_side and conf.get("require_cert"):
        context.verify_mode = ssl.CERT_REQUIRED
    if not server_side and conf.get("verify") is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_own(context, certs, conf, server_side):
    name = conf.get("cert", "server" if server_side else None)
    if name:
        context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")


def _limit_versions(context, conf):
    if "min" in conf:
        context.minimum_version = VERSIONS[conf["min"]]
    if "max" in conf:
        context.maximum_version = VERSIONS[conf["max"]]


def transport_arguments(scenario, server_side):
    """Keyword arguments for asyncio's creating calls and start_tls."""
    conf = scenario.tls
    if conf is None:
        return {}
    out = {"ssl": transport_context(scenario, server_side)}
    if not server_side:
        out["server_hostname"] = conf.get("hostname", "localhost")
    for key in ("handshake_timeout", "shutdown_timeout"):
        if key in conf:
            out["ssl_" + key] = conf[key]
    return out
