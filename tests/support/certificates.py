"""Certificates of servers and clients, passwords, and the configuration files that name them."""

import bcrypt
import trustme
import yaml

PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


class Certificates:
    """An authority in a folder, and what it has signed."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = trustme.CA()
        self.authority_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.authority_file)
        self.issue("server", "127.0.0.1")

    def issue(self, name, *identities, authority=None):
        """Write NAME.pem and NAME.key, in place of the former ones; returns their paths."""
        certificate = (authority or self.authority).issue_cert(*identities)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.cert_chain_pems[0].write_to_path(paths[0])
        certificate.private_key_pem.write_to_path(paths[1])
        return paths

    def write(self, name, document):
        path = self.folder / name
        path.write_text(yaml.safe_dump(document))
        return path

    def web_config(self, users=None, headers=None, **tls):
        """A web configuration with TLS; ``tls`` are further keys of tls_server_config."""
        document = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key", **tls}}
        if users:
            document["basic_auth_users"] = users
        if headers:
            document["http_server_config"] = {"headers": headers}
        return self.write("web.yml", document)

    def mutual(self, **more):
        """The same, for clients with a certificate of the authority only."""
        required = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
        return self.web_config(**required, **more)
