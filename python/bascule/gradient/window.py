# SPDX-License-Identifier: Apache-2.0
"""Where the windows of convolutions and pools lie.

Along one axis, window o of a signal holds its elements ``o * stride - begin + k * dilation`` for
the taps k of the kernel. A convolution goes from the signal to the windows, a transposed one back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bascule.gradient.build import Builder, Term
from bascule.gradient.registry import Refusal
from bascule.ir.graph import Node


@dataclass(frozen=True)
class _Sizes:
    """Along each axis, where all of it is known: the signal, and what its windows reach over."""

    signal: list[int]
    reach: list[int]
    begins: list[int]
    ends: list[int]

    def all_read(self, dilations: list[int]) -> bool:
        """Whether too little lies behind the last window for one more tap."""
        return all(
            before + size + after - reach < d
            for size, reach, before, after, d in zip(
                self.signal, self.reach, self.begins, self.ends, dilations
            )
        )


@dataclass(frozen=True)
class Window:
    """The windows of one node: `signal` has the elements, `windows` one number for each window."""

    build: Builder
    signal: Term
    windows: Term
    kernel: list[int] | None
    """The number of taps along each axis, if it is known."""
    taps: Term
    strides: list[int]
    dilations: list[int]
    pads: tuple[list[int], list[int]] | None
    """Before and after each axis; None if only sizes at run time tell."""
    pad_terms: tuple[Term, Term]

    @property
    def rank(self) -> int:
        """The number of axes that windows move along."""
        return len(self.strides)

    @property
    def _known(self) -> _Sizes | None:
        signal, windows = known_sizes(self.signal), known_sizes(self.windows)
        if self.pads is None or self.kernel is None or signal is None or windows is None:
            return None
        reach = [
            s * (n - 1) + d * (k - 1) + 1
            for s, n, d, k in zip(self.strides, windows, self.dilations, self.kernel)
        ]
        return _Sizes(signal, reach, *self.pads)

    @property
    def attributes(self) -> dict[str, Any]:
        return {"strides": self.strides, "dilations": self.dilations}

    def collect(self, signal: Term, kernel: Term, group: int) -> Term:
        """The convolution of a signal that has the sizes of ours."""
        signal, pads = self._padded(signal)
        return self.build.Conv(signal, kernel, group=group, pads=pads, **self.attributes)

    def spread(self, windows: Term, kernel: Term, group: int) -> Term:
        """What `collect` takes to `windows`, transposed: the sizes are those of our signal."""
        build, known = self.build, self._known
        if known is not None:
            cut = [r - b - n for r, b, n in zip(known.reach, known.begins, known.signal)]
            return build.ConvTranspose(
                windows,
                kernel,
                group=group,
                pads=[*known.begins, *(max(each, 0) for each in cut)],
                output_padding=[max(-each, 0) for each in cut],
                **self.attributes,
            )
        rest = [stride - 1 for stride in self.strides]
        whole = build.ConvTranspose(
            windows, kernel, group=group, output_padding=rest, **self.attributes
        )
        begin = self.pad_terms[0]
        return self._cut(whole, begin, begin + build.shape(self.signal, 2))

    @property
    def touch(self) -> bool:
        """Whether each window begins where the one before it ends."""
        return self.kernel == self.strides and all(
            d == 1 or k == 1 for d, k in zip(self.dilations, self.strides)
        )

    def repeat(self, windows: Term) -> Term:
        """What `spread` with a kernel of ones would give, of windows that touch."""
        build = self.build
        axes = range(2, 2 + self.rank)
        # Elements that lie behind the last window read a zero there.
        one_more = build.ints(*([0] * self.rank), *([1] * self.rank))
        term = build.Pad(windows, one_more, None, build.ints(*axes))
        for place, axis in enumerate(axes):
            begin = build.gather(self.pad_terms[0], build.ints(place))
            window = (build.indices(build.dim(self.signal, axis)) + begin) / self.strides[place]
            window = build.Min(window, build.dim(self.windows, axis))
            term = build.Gather(term, window, axis=axis)
        return term

    def kernel_slope(self, signal: Term, windows: Term, group: int) -> Term:
        """The gradient with respect to the kernel of ``sum(windows * collect(signal, kernel))``.

        It is a convolution too, with the batch for channels, and stride and dilation swapped.
        """
        build = self.build
        batch, channels, sizes = (
            build.dim(signal, 0),
            build.dim(signal, 1),
            build.shape(self.signal, 2),
        )
        padded, pads = self._padded(signal)
        if self.pads is None:
            sizes = sizes + self.pad_terms[0] + self.pad_terms[1]
        axes = list(range(2, 2 + self.rank))
        if group == 1:
            images = build.transpose(padded, [1, 0, *axes])
        else:
            groups = build.ints(group)
            each = build.divide(channels, groups)
            split = build.reshape(padded, build.concat(batch, groups, each, sizes))
            split = build.transpose(split, [2, 1, 0, *(axis + 1 for axis in axes)])
            images = build.reshape(split, build.concat(each, batch * groups, sizes))
        filters = build.transpose(windows, [1, 0, *axes])
        slope = build.Conv(
            images,
            filters,
            group=group,
            pads=pads,
            strides=self.dilations,
            dilations=self.strides,
        )
        known = self._known
        if known is None or not known.all_read(self.dilations):
            slope = self._cut(slope, build.ints(*([0] * self.rank)), self.taps)
        return build.transpose(slope, [1, 0, *axes])

    def counts(self, include_pads: bool) -> Term:
        """How many elements of the signal each window holds; the last axes only, an int64 tensor.

        With `include_pads` its padding counts too, but not what lies beyond.
        """
        build = self.build
        total = None
        for axis in range(self.rank):
            size = build.dim(self.signal, 2 + axis)
            begin, end = (build.gather(each, build.ints(axis)) for each in self.pad_terms)
            first, last = (-begin, size + end) if include_pads else (begin * 0, size)
            starts = build.indices(build.dim(self.windows, 2 + axis)) * self.strides[axis] - begin
            taps = build.indices(build.gather(self.taps, build.ints(axis))) * self.dilations[axis]
            places = build.unsqueeze(starts, 1) + taps
            inside = build.cast((places >= first) & (places < last), size.dtype)
            count = build.sum(inside, [1])
            count = build.unsqueeze(count, *range(1, self.rank - axis))
            total = count if total is None else total * count
        assert total is not None
        return total

    def _padded(self, signal: Term) -> tuple[Term, list[int] | None]:
        """The signal, padded if the convolution cannot do it, and the pads for the convolution."""
        if self.pads is not None:
            return signal, [*self.pads[0], *self.pads[1]]
        axes = self.build.ints(*range(2, 2 + self.rank))
        return self.build.Pad(signal, self.build.concat(*self.pad_terms), None, axes), None

    def fit(self, windows: Term) -> Term:
        """What `collect` gave, without windows that the node does not have."""
        begin = self.build.ints(*([0] * self.rank))
        return self._cut(windows, begin, self.build.shape(self.windows, 2))

    def _cut(self, term: Term, begin: Term, end: Term) -> Term:
        axes = self.build.ints(*range(2, 2 + self.rank))
        return self.build.Slice(term, begin, end, axes)


def window_of(
    node: Node, build: Builder, signal: Term, windows: Term, weights: Term | None = None
) -> Window:
    """The windows that the attributes of a node speak of, or its weights ``[M, C, taps...]``."""
    transposed = node.op_type == "ConvTranspose"
    rank = (windows if transposed else signal).rank - 2
    kernel = node.attribute("kernel_shape") or (known_sizes(weights) if weights else None)
    taps = build.ints(*kernel) if kernel else build.shape(_present(weights), 2)
    strides = list(node.attribute("strides") or [1] * rank)
    dilations = list(node.attribute("dilations") or [1] * rank)
    auto_pad = node.attribute("auto_pad", "NOTSET")

    def window(pads: tuple[list[int], list[int]] | None, *terms: Term) -> Window:
        if pads is not None:
            terms = build.ints(*pads[0]), build.ints(*pads[1])
        begins, ends = terms
        return Window(
            build, signal, windows, kernel, taps, strides, dilations, pads, (begins, ends)
        )

    if auto_pad in ("NOTSET", "VALID") and not (transposed and node.attribute("output_shape")):
        pads = node.attribute("pads") if auto_pad == "NOTSET" else None
        pads = list(pads or [0] * (2 * rank))
        return window((pads[:rank], pads[rank:]))
    # Padding is what windows need beyond the signal; an odd one is more at one end.
    rest = (node.attribute("output_padding") if transposed else None) or [0] * rank
    upper = auto_pad == "SAME_UPPER"
    size, count = known_sizes(signal), known_sizes(windows)
    if size is not None and count is not None and kernel:
        total = [
            max(s * (n - 1) + d * (k - 1) + 1 + r - own, 0)
            for s, n, d, k, r, own in zip(strides, count, dilations, kernel, rest, size)
        ]
        less = [n // 2 for n in total]
        more = [n - half for n, half in zip(total, less)]
        return window((less, more) if upper else (more, less))
    last = (build.shape(windows, 2) - 1) * build.ints(*strides)
    reach = last + (taps - 1) * build.ints(*dilations) + build.ints(*(r + 1 for r in rest))
    needed = build.Max(reach - build.shape(signal, 2), 0)
    half = needed / 2
    return window(None, half, needed - half) if upper else window(None, needed - half, half)


def _present(weights: Term | None) -> Term:
    if weights is None:
        raise Refusal("the size of its kernel is not known")
    return weights


def known_sizes(term: Term) -> list[int] | None:
    """The sizes from the third axis on, if all are known."""
    shape = term.value.shape
    if shape is None:
        return None
    sizes = [dim for dim in shape[2:] if isinstance(dim, int)]
    return sizes if len(sizes) == len(shape) - 2 else None
