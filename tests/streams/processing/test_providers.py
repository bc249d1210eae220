"""Names of providers and models are OpenTelemetry's, stable, and no input raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.processing import providers
from streams.processing.providers import ALIASES, LONGEST, normalised

WELL_KNOWN = {
    "openai",
    "gcp.gen_ai",
    "gcp.vertex_ai",
    "gcp.gemini",
    "anthropic",
    "cohere",
    "azure.ai.inference",
    "azure.ai.openai",
    "ibm.watsonx.ai",
    "aws.bedrock",
    "perplexity",
    "x_ai",
    "deepseek",
    "groq",
    "mistral_ai",
    "moonshot_ai",
}

known = st.sampled_from(sorted({a for name, aliases in ALIASES.items() for a in (name, *aliases)}))
segment = (
    known
    | st.sampled_from([b"", b"models", b"langgenius", b"openrouter", b" ", b"\xff"])
    | st.binary(max_size=8)
)
path = st.lists(segment, max_size=5).map(b"/".join)
name = st.none() | path | st.binary(max_size=300) | st.just(b"n" * 8192)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("langgenius/openai/openai", "openai"),
        ("openai", "openai"),
        ("langgenius/azure_openai/azure_openai", "azure.ai.openai"),
        ("langgenius/azure_ai_studio/azure_ai_studio", "azure.ai.inference"),
        ("langgenius/bedrock/bedrock", "aws.bedrock"),
        ("langgenius/vertex_ai/vertex_ai", "gcp.vertex_ai"),
        ("langgenius/gemini/google", "gcp.gemini"),
        ("langgenius/anthropic/anthropic", "anthropic"),
        ("langgenius/mistralai/mistralai", "mistral_ai"),
        ("langgenius/moonshot/moonshot", "moonshot_ai"),
        ("langgenius/x/x", "x_ai"),
        ("langgenius/deepseek/deepseek", "deepseek"),
        ("langgenius/tongyi/tongyi", "tongyi"),
        ("langgenius/zhipuai/zhipuai", "zhipuai"),
        ("langgenius/openai_api_compatible/openai_api_compatible", "openai_api_compatible"),
        ("langgenius/openrouter/openrouter", "openrouter"),
        ("OpenAI", "openai"),
        (" x-ai ", "x_ai"),
        ("aws.bedrock", "aws.bedrock"),
        ("someone/plugin/My-Models/", "my-models"),
        ("", None),
        (" / ", None),
        (None, None),
    ],
)
def test_providers(provider: str | None, expected: str | None) -> None:
    found, _ = normalised(provider if provider is None else provider.encode(), b"m")
    assert found == (expected if expected is None else expected.encode())


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o", ("openai", "gpt-4o")),
        ("langgenius/openai/openai", "openai/gpt-4o", ("openai", "gpt-4o")),
        ("openai", "OpenAI/openai/gpt-4o", ("openai", "gpt-4o")),
        ("openrouter", "openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
        ("openrouter", "openrouter/auto", ("openrouter", "openrouter/auto")),
        ("groq", "openai/gpt-oss-120b", ("groq", "openai/gpt-oss-120b")),
        ("groq", "groq/compound", ("groq", "groq/compound")),
        ("perplexity", "perplexity/sonar", ("perplexity", "perplexity/sonar")),
        ("langgenius/gemini/google", "models/gemini-2.5-pro", ("gcp.gemini", "gemini-2.5-pro")),
        (
            "bedrock",
            "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
            ("aws.bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ),
        ("azure", "azure/My-Deployment", ("azure.ai.openai", "My-Deployment")),
        (
            "fireworks",
            "accounts/fireworks/models/llama-v3p1-8b",
            ("fireworks", "accounts/fireworks/models/llama-v3p1-8b"),
        ),
        (None, "gpt-4o", (None, "gpt-4o")),
        (None, "openai/gpt-4o", ("openai", "gpt-4o")),
        (None, "vertex_ai/gemini-2.5-pro", ("gcp.vertex_ai", "gemini-2.5-pro")),
        (None, "groq/compound", ("groq", "groq/compound")),
        (None, "meta-llama/Llama-3.3-70B", (None, "meta-llama/Llama-3.3-70B")),
        ("", "openai/gpt-4o", ("openai", "gpt-4o")),
        ("openai", "openai/", ("openai", "openai/")),
        ("openai", "", ("openai", None)),
        ("openai", None, ("openai", None)),
    ],
)
def test_models(provider: str | None, model: str | None, expected: tuple[str | None, str | None]) -> None:
    found = normalised(*(n if n is None else n.encode() for n in (provider, model)))
    assert found == tuple(n if n is None else n.encode() for n in expected)


def test_the_table_has_the_conventions_names_and_each_alias_once() -> None:
    assert {n.decode() for n in ALIASES} == WELL_KNOWN
    names = [n for name, aliases in ALIASES.items() for n in (name, *aliases)]
    assert len(names) == len(set(names))
    assert all(n == n.lower().replace(b"-", b"_") for n in names)


@given(name, name)
def test_normalising_twice_changes_nothing(provider: bytes | None, model: bytes | None) -> None:
    once = normalised(provider, model)
    assert normalised(*once) == once
    assert normalised(provider, model) == once


@pytest.mark.parametrize("odd", [b"langgenius/\xff/openai", b"\xc3", b"openai/" * 1200, b"a/" * LONGEST])
def test_a_name_that_cannot_be_parsed_stays(odd: bytes) -> None:
    assert normalised(odd, odd) == (odd, odd)
    assert normalised(b"openai", odd) == (b"openai", odd)
    assert normalised(odd, b"models/m") == (odd, b"m")


def test_what_is_remembered_is_bounded() -> None:
    for i in range(10_000):
        normalised(b"p%d" % i, b"m")
    assert len(providers._known) <= 4096
    providers._known.clear()
    normalised(b"p" * 8192, b"m")
    assert not providers._known
