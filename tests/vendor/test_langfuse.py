"""What Langfuse's double answers, against the models of Langfuse's own SDK."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.testing.doubles.langfuse import PROJECTS, LangfuseDouble
from tests.vendor import venvs
from tests.vendor.inside import langfuse as judge

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def interpreter() -> Path:
    return venvs.python(*judge.REQUIRES)


async def projects() -> Any:
    async with LangfuseDouble() as double, aiohttp.ClientSession() as session:
        keys = base64.b64encode(f"{double.public_key}:{double.secret_key}".encode()).decode()
        async with session.get(
            double.endpoint + PROJECTS, headers={"Authorization": f"Basic {keys}"}
        ) as answer:
            return await answer.json()


def test_the_answers_of_the_double_match_the_models(interpreter: Path) -> None:
    answers = [
        (
            "langfuse.api.scores.types:CreateScoreBatchResults",
            {"accepted": 1, "rejected": 1, "errors": [{"message": "m"}]},
        ),
        ("langfuse.api.scores.types:CreateScoreBatchResponse", {"message": "Accepted"}),
        ("langfuse.api.projects.types:Projects", asyncio.run(projects())),
    ]
    assert venvs.errors(interpreter, answers) == [[], [], []]
