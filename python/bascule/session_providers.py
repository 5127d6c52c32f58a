# SPDX-License-Identifier: Apache-2.0
"""What a session tells of its providers, and how they are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bascule.errors import Fail
from bascule.graph_assignment import OrtEpAssignedSubgraph, assigned_subgraphs
from bascule.provider_choice import ep_devices
from bascule.providers.names import CPU, CUDA, resolve_providers
from bascule.session_settings import names_cpu

if TYPE_CHECKING:
    from bascule.compiled import CompiledModel
    from bascule.metadata import NodeArg
    from bascule.options import SessionOptions


class SessionProviders:
    """The part of InferenceSession that is about execution providers."""

    _resolved: list[tuple[str, dict[str, str]]]
    _asked: tuple[Any, Any]
    """`providers` and `provider_options` as the caller gave them."""
    _may_use_cpu: bool
    _enable_fallback: bool
    _cuda: Any
    _options: SessionOptions
    _compiled: CompiledModel
    _inputs_meta: list[NodeArg]

    if TYPE_CHECKING:

        def _compile(self) -> None: ...

    def get_providers(self) -> list[str]:
        """The providers in use, by falling preference; the CPU is last."""
        return [name for name, _ in self._resolved]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The effective options of each provider, the defaults of others included."""
        found = {name: dict(options) for name, options in self._resolved}
        if CUDA in found:
            # Imported here: most sessions are on the CPU alone.
            from bascule.providers.cuda.options import effective

            found[CUDA] = effective(found[CUDA])
        return found

    def set_providers(
        self,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Use other providers from now on; the session is compiled again.

        Raises:
            RuntimeError: a name is unknown.
            Others: as when a session is made. After any error the session stays as it was.
        """
        resolved = resolve_providers(providers, provider_options, fallback=False)
        before = dict(self.__dict__)
        self._resolved = resolved
        self._asked = (providers, provider_options)
        self._may_use_cpu = names_cpu(providers)
        self._cuda = None
        try:
            self._compile()
        except BaseException:
            self.__dict__.update(before)
            raise

    def enable_fallback(self) -> None:
        """Let a run whose provider fails (EPFail) go on with the CPU provider."""
        self._enable_fallback = True

    def disable_fallback(self) -> None:
        """Let a failing provider fail the run."""
        self._enable_fallback = False

    def _fall_back(self, error: Exception) -> None:
        """After a provider has failed: use the CPU from now on, or raise the error."""
        if not self._enable_fallback:
            raise error
        print(f"EP Error: {error} using {self.get_providers()}")
        print(f"Falling back to {self._fallback_providers} and retrying.")
        self.set_providers(self._fallback_providers)
        self.disable_fallback()

    def get_provider_graph_assignment_info(self) -> list[OrtEpAssignedSubgraph]:
        """Which provider runs which nodes.

        Raises:
            Fail: the session was made without ``session.record_ep_graph_assignment_info`` = "1".
        """
        key = "session.record_ep_graph_assignment_info"
        if self._options._config.get(key) != "1":
            raise Fail(
                f"Session configuration entry '{key}' must be set to \"1\" to retrieve EP graph "
                "assignment information."
            )
        return assigned_subgraphs(self._compiled.rows)

    def get_input_epdevices(self) -> list[Any]:
        """For each input, the OrtEpDevice that takes it, or None."""
        first = self.get_providers()[0]
        found = next((device for device in ep_devices() if device.ep_name == first), None)
        return [found for _ in self._inputs_meta]

    def release_captured_graph(self, graph_annotation_id: int = 0) -> None:
        """Accepted: captured graphs go with the bindings that they belong to."""

    # The names below are private, but read by public projects.

    @property
    def _providers(self) -> list[str]:
        return self.get_providers()

    @property
    def _provider_options(self) -> dict[str, dict[str, str]]:
        return self.get_provider_options()

    @property
    def _fallback_providers(self) -> list[str]:
        return [CPU]
