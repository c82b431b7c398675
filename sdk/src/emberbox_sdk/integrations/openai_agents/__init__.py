"""OpenAI's Agents SDK: microVMs as the sandboxes of its agents (docs/frameworks.md)."""

from emberbox_sdk.integrations import shared

with shared.framework("openai-agents"):
    from emberbox_sdk.integrations.openai_agents.client import EmberboxSandboxClient
    from emberbox_sdk.integrations.openai_agents.session import EmberboxSandboxSession
    from emberbox_sdk.integrations.openai_agents.state import EmberboxSandboxClientOptions, EmberboxSandboxSessionState

__all__ = [
    "EmberboxSandboxClient",
    "EmberboxSandboxClientOptions",
    "EmberboxSandboxSession",
    "EmberboxSandboxSessionState",
]
