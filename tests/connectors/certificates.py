"""A certificate authority, a server's certificate for localhost and a client's, as files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import trustme


class Certificates(NamedTuple):
    ca: Path
    chain: Path
    key: Path
    client_chain: Path
    client_key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    server, client = authority.issue_cert("localhost"), authority.issue_cert("client@example.org")
    made = Certificates(*(folder / f"{name}.pem" for name in Certificates._fields))
    authority.cert_pem.write_to_path(str(made.ca))
    for issued, chain, key in ((server, made.chain, made.key), (client, made.client_chain, made.client_key)):
        issued.private_key_pem.write_to_path(str(key))
        for pem in issued.cert_chain_pems:
            pem.write_to_path(str(chain), append=True)
    return made
