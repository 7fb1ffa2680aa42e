"""A server with a web configuration, and what its readers get."""

import base64
import http.client
import ssl

from rl_exporter import ListenAddress, MetricsServer
from rl_exporter.server.gate import Gate
from tests.support.certificates import HASH, PASSWORD
from tests.support.panel_runs import ratio_run

USERS = {"prometheus": HASH}
GOOD = f"prometheus:{PASSWORD}"


def serving(web_config=None, host="127.0.0.1", limits=None, **options):
    gate = Gate(web_config, **options)
    return MetricsServer(ratio_run(0.4).snapshot, ListenAddress(host, 0), gate=gate, limits=limits)


def trusting(certificates, name=None):
    """A client's context, with the certificate of that name."""
    context = ssl.create_default_context(cafile=certificates.authority_file)
    if name:
        context.load_cert_chain(certificates.folder / f"{name}.pem", certificates.folder / f"{name}.key")
    return context


def basic(login):
    return "Basic " + base64.b64encode(login.encode()).decode()


def ask(server, path="/metrics", tls=None, login=None, **headers):
    """Status and headers of an answer."""
    address = ("127.0.0.1", server.address.port)
    if tls:
        connection = http.client.HTTPSConnection(*address, timeout=30, context=tls)
    else:
        connection = http.client.HTTPConnection(*address, timeout=30)
    if login:
        headers["Authorization"] = basic(login)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers
    finally:
        connection.close()


def status(*arguments, **options):
    return ask(*arguments, **options)[0]


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "rl_exporter"]
