"""Retrieved documents in the form of Alibaba's conventions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.sinks.alibaba.messages import found

DOCUMENT = {"title": "returns.md", "metadata": {"document_id": "d1", "score": 0.5}}


@pytest.mark.parametrize(
    "result", [[DOCUMENT], {"value_type": "array[object]", "value": [DOCUMENT]}], ids=["list", "segment"]
)
def test_documents_of_a_knowledge_node_are_found_in_both_forms(result: Any) -> None:
    """As in Dify's own records, and as the engine writes an array."""
    encoded = found(json.dumps({"result": result}))
    assert encoded is not None
    assert json.loads(encoded) == [{"id": "d1", "score": 0.5, **DOCUMENT}]


@pytest.mark.parametrize(
    "outputs",
    ["", "[]", "{}", '{"result": 1}', '{"result": {}}', '{"result": {"value": [1]}}', '{"result": ["x"]}'],
)
def test_other_outputs_have_no_documents(outputs: str) -> None:
    assert found(outputs) is None
