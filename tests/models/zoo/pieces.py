# SPDX-License-Identifier: Apache-2.0
"""Odd ends: small modules that collect what the architectures do not reach."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.zoo.case import Case, adapt, normal, tokens


class Piece(nn.Module):
    """A module without weights around a function of tensors."""

    def __init__(self, function: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self._function(*tensors)


def einsum(**how: object) -> Case:
    """A bilinear form, attention scores, a trace of each matrix, an outer product."""

    def forward(left: Tensor, right: Tensor, form: Tensor) -> tuple[Tensor, ...]:
        return (
            torch.einsum("bqi,oij,bkj->boqk", left, form, right),
            torch.einsum("bqd,bkd->bqk", left, right),
            torch.einsum("oii->o", form),
            torch.einsum("bq,bk->bqk", left[..., 0], right[..., 0]),
        )

    run = {
        "left": normal(2, 5, 6),
        "right": normal(2, 4, 6, seed=2),
        "form": normal(3, 6, 6, seed=3),
    }
    return Case(Piece(forward), [run], ["bilinear", "scores", "trace", "outer"], **how)


def scatter(**how: object) -> Case:
    """Writes through indices: assigned, added, masked, and a running sum."""

    def forward(data: Tensor, rows: Tensor, columns: Tensor, updates: Tensor) -> tuple[Tensor, ...]:
        assigned = data.clone()
        assigned[rows, columns] = updates
        added = data.index_put((rows,), data[:4], accumulate=True)
        scattered = data.scatter_add(1, columns[None].expand(8, -1), data[:, :4])
        masked = data.masked_fill(data > 0.5, -1.0)
        written = data.clone()
        written[1:7:2, 2:] = 0.25
        return assigned, added, scattered, masked, data.cumsum(1), written

    run = {
        "data": normal(8, 6),
        "rows": torch.tensor([1, 3, 7, 0]),
        "columns": torch.tensor([5, 0, 2, 2]),
        "updates": normal(4, seed=2),
    }
    outputs = ["assigned", "added", "scattered", "masked", "running", "written"]
    return Case(Piece(forward), [run], outputs, **how)


def select(**how: object) -> Case:
    """Choices among values: the largest, sorted, the positions of a mask, gathered."""

    def forward(data: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        best, where = data.topk(3, dim=1)
        return (
            best,
            where,
            data.sort(dim=0).values,
            (data > 0).nonzero(),
            data.argmax(dim=1),
            data.gather(1, index),
            data[:, index[0]],
            data[data < 0],
        )

    runs = [
        {"data": normal(5, 8, seed=seed), "index": tokens(5, 4, vocabulary=8, seed=seed)}
        for seed in (1, 2)
    ]
    outputs = [
        "best",
        "where",
        "ascending",
        "positive",
        "argmax",
        "gathered",
        "columns",
        "negative",
    ]
    return Case(Piece(forward), runs, outputs, **how)


def rearrange(**how: object) -> Case:
    """The same values elsewhere: rolled, flipped, padded, unfolded, shuffled, repeated."""

    def forward(image: Tensor) -> tuple[Tensor, ...]:
        return (
            image.roll((1, -2), dims=(2, 3)),
            image.flip(3),
            functional.pad(image, (2, 1, 0, 3), mode="reflect"),
            functional.pad(image, (1, 1, 2, 0), mode="replicate"),
            functional.unfold(image, 3, padding=1, stride=2),
            functional.pixel_shuffle(image, 2),
            functional.pixel_unshuffle(image, 2),
            image.repeat(1, 2, 1, 1)[:, ::3],
            torch.stack(image.chunk(2, dim=1), dim=-1),
            image.tril(1) + image.triu(2) * 2,
            image.movedim(1, -1).flatten(1, 2),
        )

    outputs = [
        "rolled",
        "flipped",
        "reflected",
        "replicated",
        "unfolded",
        "shuffled",
        "unshuffled",
        "repeated",
        "stacked",
        "triangles",
        "moved",
    ]
    return Case(Piece(forward), [{"image": normal(2, 4, 8, 6)}], outputs, **how)


def sample(**how: object) -> Case:
    """Images at other places: a grid, and every mode of resizing."""

    def forward(image: Tensor, theta: Tensor) -> tuple[Tensor, ...]:
        grid = functional.affine_grid(theta, [2, 3, 5, 7], align_corners=False)
        return (
            functional.grid_sample(image, grid, padding_mode="border", align_corners=False),
            functional.interpolate(image, size=(11, 5), mode="bilinear", align_corners=True),
            functional.interpolate(image, size=(13, 9), mode="bicubic", align_corners=False),
            functional.interpolate(image, scale_factor=0.5, mode="bilinear"),
            functional.interpolate(image, scale_factor=(3.0, 2.0), mode="nearest"),
        )

    theta = torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.0]], [[1.0, 0.0, 0.0], [0.0, 0.5, 0.2]]])
    run = {"image": normal(2, 3, 8, 6), "theta": theta}
    outputs = ["sampled", "corners", "cubic", "smaller", "nearest"]
    return Case(Piece(forward), [run], outputs, **how)


class Activations(nn.Module):
    """A linear layer and an activation after it, for many activations."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 12)
        self.activations = nn.ModuleList(
            [
                nn.GELU(approximate="tanh"),
                nn.GELU(),
                nn.SiLU(),
                nn.Mish(),
                nn.CELU(0.7),
                nn.SELU(),
                nn.ELU(0.5),
                nn.LeakyReLU(0.2),
                nn.Softplus(),
                nn.Softsign(),
                nn.Hardtanh(-0.7, 0.9),
                nn.ReLU6(),
                nn.LogSigmoid(),
                nn.Tanhshrink(),
                nn.Softshrink(0.3),
                nn.Softmin(dim=1),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for activation in self.activations:
            x = x + activation(self.linear(x))
            x = x / (1 + x.abs().amax(dim=-1, keepdim=True)) * 3
        return x


def activations(**how: object) -> Case:
    runs = [{"x": normal(batch, 12)} for batch in (4, 1)]
    module = adapt(Activations(), lambda m, x: m(x))
    return Case(module, runs, ["y"], axes={"x": {0: "batch"}}, **how)


class Norms(nn.Module):
    """Every normalization, over every axis, and the reductions they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.layer = nn.LayerNorm((6, 5))
        self.rms = nn.RMSNorm(5, eps=1e-6)
        self.response = nn.LocalResponseNorm(3)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.response(self.layer(self.instance(self.group(image))))
        x = self.rms(x) + functional.normalize(x, dim=1)
        return (
            x,
            x.softmax(dim=1),
            x.logsumexp(dim=(2, 3)),
            x.std(dim=1),
            x.norm(p=1, dim=-1),
            x.prod(dim=3),
            x.amin(dim=(0, 2)),
        )


def norms(**how: object) -> Case:
    outputs = ["x", "softmax", "logsumexp", "deviation", "norm", "product", "smallest"]
    runs = [{"image": normal(batch, 8, 6, 5)} for batch in (3, 2)]
    module = adapt(Norms(), lambda m, image: m(image))
    return Case(module, runs, outputs, axes={"image": {0: "batch"}}, **how)


def integers(**how: object) -> Case:
    """Division, remainders, shifts, bits, comparisons and casts, on negative numbers too."""

    def forward(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return (
            torch.div(a, b, rounding_mode="floor"),
            torch.div(a, b, rounding_mode="trunc"),
            a.remainder(b),
            a.fmod(b),
            (a & 12) | (b ^ 5),
            torch.where((a > b) & ~(a == 3), a.clamp(-4, 4), -b),
            (a / b).round().to(torch.int32),
            a.to(torch.uint8),
            (a.float() * 0.3).to(torch.int64).sum(dim=0),
            a.max(dim=1).values.bool().any(),
        )

    a = tokens(4, 6, vocabulary=20) - 10
    b = tokens(4, 6, vocabulary=5, seed=2) - 6
    outputs = [
        "floor",
        "truncated",
        "remainder",
        "fmod",
        "bits",
        "where",
        "rounded",
        "bytes",
        "sum",
        "any",
    ]
    return Case(Piece(forward), [{"a": a, "b": b}], outputs, **how)


class Convolutions(nn.Module):
    """Convolutions and pools in one, two and three dimensions, with every attribute in use."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(4, 6, 5, stride=2, padding=3, dilation=2)
        self.line_back = nn.ConvTranspose1d(6, 4, 3, stride=2, output_padding=1)
        self.plane = nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(0, 2), groups=2)
        self.plane_back = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, groups=2, dilation=2)
        self.space = nn.Conv3d(2, 4, 3, padding=1, bias=False)

    def forward(self, line: Tensor, plane: Tensor, space: Tensor) -> tuple[Tensor, ...]:
        plane = self.plane(plane)
        space = self.space(space)
        return (
            self.line_back(self.line(line).relu()),
            self.plane_back(plane.sigmoid()),
            functional.max_pool2d(plane, (3, 2), stride=2, padding=1, dilation=(1, 2)),
            functional.avg_pool2d(plane, 3, stride=2, padding=1, ceil_mode=True),
            functional.adaptive_avg_pool2d(plane, (2, 3)),
            functional.lp_pool2d(plane, 2.0, 2),
            functional.max_pool3d(space, 2),
            functional.avg_pool1d(line, 3, stride=2),
        )


def convolutions(**how: object) -> Case:
    run = {
        "line": normal(2, 4, 15),
        "plane": normal(2, 4, 10, 12, seed=2),
        "space": normal(1, 2, 4, 6, 6, seed=3),
    }
    outputs = ["line_back", "plane_back", "max2", "mean2", "adaptive", "lp", "max3", "mean1"]
    module = adapt(Convolutions(), lambda m, *tensors: m(*tensors))
    return Case(module, [run], outputs, **how)


class Experts(nn.Module):
    """A router that gives each token to the best two of four experts."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.up = nn.Parameter(torch.empty(4, 24, 16))
        self.down = nn.Parameter(torch.empty(4, 16, 24))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(dim=-1).topk(2, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        hidden = functional.silu(torch.einsum("ti,teoi->teo", x, self.up[chosen]))
        result = torch.einsum("teo,teio->tei", hidden, self.down[chosen])
        return (result * weights[..., None]).sum(dim=1)


def experts(**how: object) -> Case:
    runs = [{"x": normal(count, 16)} for count in (5, 9)]
    module = adapt(Experts(), lambda m, x: m(x))
    return Case(module, runs, ["y"], axes={"x": {0: "tokens"}}, **how)


class Repeat(nn.Module):
    """A loop whose length is known only at run time, with a branch in it."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.Linear(6, 6)

    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.zeros_like(x)
        steps = torch.zeros(1, dtype=torch.int64)
        for _ in range(int(count)):
            if bool(state.sum() > 0.5):
                state = (x + self.recurrent(state)).tanh()
            else:
                state = self.recurrent(state) + 0.5
            steps += 1
        return state, steps


def loop(**how: object) -> Case:
    module = adapt(Repeat(), lambda m, x, count: m(x, count))
    runs = [{"x": normal(2, 6), "count": torch.tensor(count)} for count in (3, 1, 7)]
    scripted = torch.jit.script(module.module)
    return Case(scripted, runs, ["state", "steps"], **how)


class Branch(nn.Module):
    """One of two layers, by the sum of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 5)
        self.right = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(
            x.sum() > 0,
            lambda t: self.left(t).relu(),
            lambda t: self.right(t).tanh(),
            (x,),
        )


def branch(**how: object) -> Case:
    module = adapt(Branch(), lambda m, x: m(x))
    runs = [{"x": normal(3, 6).abs()}, {"x": -normal(3, 6).abs()}]
    return Case(module, runs, ["y"], **how)


CASES: dict[str, Callable[[], Case]] = {
    "einsum": einsum,
    "scatter": scatter,
    "scatter_torchscript": partial(scatter, dynamo=False),
    "select": select,
    "select_torchscript": partial(select, dynamo=False),
    "rearrange": rearrange,
    "rearrange_torchscript": partial(rearrange, dynamo=False),
    "sample": sample,
    "sample_torchscript": partial(sample, dynamo=False),
    "activations": activations,
    "activations_torchscript": partial(activations, dynamo=False, opset=13),
    "norms": norms,
    "norms_opset23": partial(norms, opset=23),
    "integers": integers,
    "convolutions": convolutions,
    "convolutions_torchscript": partial(convolutions, dynamo=False),
    "experts": experts,
    "branch": branch,
    "loop_torchscript": partial(loop, dynamo=False),
}
