"""OpenAI's Agents SDK: microVMs as the sandboxes of its agents.

from agents.run import RunConfig
from agents.sandbox import SandboxRunConfig
from emberbox_sdk.integrations.openai_agents import EmberboxSandboxClient

RunConfig(sandbox=SandboxRunConfig(client=EmberboxSandboxClient()))
"""

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
