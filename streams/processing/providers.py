"""Names of providers and models by OpenTelemetry's GenAI conventions. Pure; the table is `ALIASES`.

Source: the well-known values of gen_ai.provider.name in open-telemetry/semantic-conventions-genai,
model/gen-ai/registry.yaml (status: development).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ALIASES: Final[Mapping[bytes, tuple[bytes, ...]]] = {
    b"openai": (),
    b"anthropic": (),
    b"aws.bedrock": (b"bedrock", b"bedrock_converse", b"amazon_bedrock", b"aws_bedrock"),
    b"azure.ai.openai": (b"azure_openai", b"azure", b"az.ai.openai"),
    b"azure.ai.inference": (
        b"azure_ai_studio",
        b"azure_ai_inference",
        b"azure_ai_foundry",
        b"azure_ai",
        b"az.ai.inference",
    ),
    b"gcp.gemini": (b"gemini", b"google", b"google_genai", b"google_gla", b"google_ai_studio"),
    b"gcp.vertex_ai": (b"vertex_ai", b"vertexai", b"vertex", b"google_vertex", b"google_vertexai"),
    b"gcp.gen_ai": (),
    b"cohere": (),
    b"deepseek": (),
    b"groq": (),
    b"ibm.watsonx.ai": (b"watsonx", b"ibm_watsonx"),
    b"mistral_ai": (b"mistralai", b"mistral"),
    b"moonshot_ai": (b"moonshot", b"moonshotai"),
    b"perplexity": (b"perplexity_ai",),
    b"x_ai": (b"xai", b"x", b"grok"),
}
"""The convention's names -> names in Dify's plugins, LiteLLM, LangChain and older conventions.

``-`` counts as ``_``. `google` is Gemini, because Dify names that plugin's provider so
(langgenius/gemini/google). openai_api_compatible is not OpenAI: it is any server that speaks its
protocol.
"""

REPEATS: Final = frozenset((b"groq", b"perplexity"))
"""Providers with models whose own names begin with the provider's.

Examples: groq/compound; perplexity/sonar, which does not have the price of sonar.
"""

LONGEST: Final = 256
"""Bytes of the longest name that is normalised."""

_NAMES: Final = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
_BLANK: Final = b" \t\n\r\v\f"
_MOST: Final = 4096

Names = tuple[bytes | None, bytes | None]

_known: Final[dict[Names, Names]] = {}


def normalised(provider: bytes | None, model: bytes | None) -> Names:
    """gen_ai.provider.name and gen_ai.request.model of an operation, from the application's names.

    Provider: the convention's name for the last segment of a path, else that segment in lower case.
    Model: the name in the request, without ``models/`` (Gemini's resource names) and without a first
    segment that repeats the provider (``openai/gpt-4o`` of openai is ``gpt-4o``), unless the provider
    is one of `REPEATS`. A first segment that names another provider stays: at gateways and hosts it
    belongs to the model's name (``openai/gpt-4o`` at openrouter, ``openai/gpt-oss-120b`` at groq).
    Bedrock's ids and the case stay. A missing provider is known only if the model's first segment is a
    name of the table.

    Empty names are None. Names that are not UTF-8 or longer than `LONGEST` are not changed. Normalising
    twice changes nothing. Whether a provider or model exists is not checked.
    """
    found = _known.get((provider, model))
    return found if found is not None else _learn(provider, model)


def _learn(provider: bytes | None, model: bytes | None) -> Names:
    names = _normalised(provider, model)
    if len(provider or b"") <= LONGEST and len(model or b"") <= LONGEST:
        if len(_known) >= _MOST:
            _known.clear()
        _known[provider, model] = names
    return names


def _normalised(provider: bytes | None, model: bytes | None) -> Names:
    name = _provider(provider) if _readable(provider) else provider
    return _model(name, model) if model and _readable(model) else (name, model or None)


def _readable(name: bytes | None) -> bool:
    if name is None or len(name) > LONGEST:
        return False
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _named(segment: bytes) -> bytes | None:
    return _NAMES.get(segment.lower().replace(b"-", b"_"))


def _provider(path: bytes | None) -> bytes | None:
    last = (path or b"").strip(_BLANK + b"/").rpartition(b"/")[2].strip(_BLANK)
    return _named(last) or last.lower() or None


def _model(provider: bytes | None, model: bytes) -> Names:
    while True:
        first, _, rest = model.partition(b"/")
        if not rest:
            return provider, model
        if first != b"models":
            named = _named(first)
            if named is None or (provider is not None and provider != named):
                return provider, model
            provider = named
            if named in REPEATS:
                return provider, model
        model = rest
