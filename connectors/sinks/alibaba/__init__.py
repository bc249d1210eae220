"""The Alibaba Cloud sink."""

from connectors.sinks.alibaba.sink import Alibaba

__all__ = ["Alibaba"]
