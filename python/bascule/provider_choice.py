# SPDX-License-Identifier: Apache-2.0
"""Execution providers chosen in SessionOptions: by name, by device, or by a policy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bascule.device_kinds import OrtExecutionProviderDevicePolicy as Policy
from bascule.errors import Fail, InvalidArgument
from bascule.providers.names import CPU, CUDA, all_providers, available_providers, similar_name

Delegate = Callable[[Sequence[Any], Mapping[str, str], Mapping[str, str], int], Sequence[Any]]

_MOST_SELECTED = 8
_FOR_GPU = (Policy.PREFER_GPU, Policy.MAX_PERFORMANCE)


class ProviderChoice:
    """The part of SessionOptions that is about execution providers."""

    _providers: dict[str, dict[str, str]]
    _policy: Any
    _context_reader: Any

    def add_provider(self, name: str, options: Mapping[str, str]) -> None:
        """Use this provider, after those that were added before.

        Raises:
            TypeError: `name` is no str, or an option is no str.
            RuntimeError: no provider has this name.
            InvalidArgument: the provider is known but is none of bascule's.
        """
        _check_texts(name, options)
        if name not in all_providers():
            raise RuntimeError(f"Unknown Provider Type: {name}{similar_name(name)}")
        if name not in (CPU, CUDA):
            raise InvalidArgument(
                f"Failed to add provider of type '{name}' to SessionOptions. Provider "
                "configuration is not supported.",
                expected=[CUDA, CPU],
            )
        self._providers.setdefault(name, dict(options))

    def has_providers(self) -> bool:
        """Whether providers, devices or a policy have been set."""
        return bool(self._providers) or self._policy is not None

    def add_provider_for_devices(self, devices: Sequence[Any], options: Mapping[str, str]) -> None:
        """Use the provider of these OrtEpDevices, which must be one and the same.

        Raises:
            InvalidArgument: there are no devices, or they belong to several providers.
        """
        names = {device.ep_name for device in devices}
        if not names:
            raise InvalidArgument("Must provide one or more OrtEpDevice instances.")
        if len(names) > 1:
            raise InvalidArgument(
                "All OrtEpDevice instances must refer to the same execution provider",
                found=sorted(names),
            )
        self.add_provider(names.pop(), options)

    def set_provider_selection_policy(self, policy: Policy) -> None:
        """Let the runtime choose: a GPU for PREFER_GPU and MAX_PERFORMANCE, else the CPU.

        Raises:
            TypeError: `policy` is no OrtExecutionProviderDevicePolicy.
        """
        if not isinstance(policy, Policy):
            raise TypeError(
                "incompatible function arguments: policy must be OrtExecutionProviderDevicePolicy, "
                f"not {type(policy).__name__}"
            )
        self._policy = policy

    def set_provider_selection_policy_delegate(self, delegate: Delegate | None) -> None:
        """Let ``delegate(devices, model metadata, runtime metadata, most)`` choose OrtEpDevices.

        It is called when a session is made; that raises Fail when the delegate fails or chooses
        nothing. None takes the policy back.

        Raises:
            TypeError: it cannot be called.
        """
        if delegate is not None and not callable(delegate):
            raise TypeError("incompatible function arguments: the delegate cannot be called")
        self._policy = delegate

    def set_ep_context_data_read_func(
        self, read_func: Callable[[str, Any], object], max_data_size: int
    ) -> None:
        """Accepted: it would read data of models compiled for a device, which there are none of.

        Raises:
            TypeError: `read_func` cannot be called, or `max_data_size` (bytes) is no int.
        """
        if not callable(read_func) or not isinstance(max_data_size, int):
            raise TypeError(
                "incompatible function arguments: expected a function and a number of bytes"
            )
        self._context_reader = (read_func, max_data_size)

    def clear_ep_context_data_read_func(self) -> None:
        """Forget the function of set_ep_context_data_read_func."""
        self._context_reader = None

    def chosen_providers(self) -> list[tuple[str, dict[str, str]]]:
        """(name, options) of what is to be used, by falling preference.

        Raises:
            Fail: the delegate of set_provider_selection_policy_delegate fails, or chooses nothing.
        """
        if self._providers or self._policy is None:
            return [(name, dict(options)) for name, options in self._providers.items()]
        if isinstance(self._policy, Policy):
            wanted = (CUDA, CPU) if self._policy in _FOR_GPU else (CPU,)
            return [(name, {}) for name in available_providers() if name in wanted]
        try:
            names = [each.ep_name for each in self._policy(ep_devices(), {}, {}, _MOST_SELECTED)]
        except Exception as error:
            raise Fail(f"EP selection delegate failed: {type(error).__name__}: {error}") from error
        if not names:
            raise Fail("EP selection delegate did not select anything.")
        return [(name, {}) for name in dict.fromkeys(names)]


def ep_devices() -> list[Any]:
    """The OrtEpDevices of this machine."""
    try:  # imported here: few sessions ask for devices
        module = importlib.import_module("bascule.ep_devices")
    except ModuleNotFoundError:
        return []
    return list(module.get_ep_devices())


def _check_texts(name: Any, options: Any) -> None:
    texts = [name, *options, *options.values()] if isinstance(options, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("incompatible function arguments: expected a str and a dict of str to str")
