# SPDX-License-Identifier: Apache-2.0
"""Caches that Attention updates itself, beyond the text of the pass."""

from __future__ import annotations

import numpy as np

from bascule.optimizer.fuse_cache_update import fuse_cache_update
from tests.optimizer.fusing import assert_fused, assert_kept

UPDATES = """
    g (float[1,1,8] q, float[1,1,4] k, float[1,1,4] v, float[1,1,6,4] pk, float[1,1,6,4] pv,
       float[1,2,1,6] mask, float[2] sink, int64[1] first, int64[1] other, int64[1] all,
       int64[1] valid) => (float[1,1,8] y) {
        nk = bascule.UpdateCache(pk, k, first, all) nv = bascule.UpdateCache(pv, v, first, all)
        y = bascule.Attention<q_num_heads = 2>(q, nk, nv, mask, , , valid, sink) }"""
PLACES = {"first": np.array([2]), "all": np.array([6]), "valid": np.array([4])}


def test_what_else_attention_takes() -> None:
    assert_fused(UPDATES, fuse_cache_update, to={"bascule.Attention": 1}, feeds=PLACES)
    without = UPDATES.replace("mask, , , valid, sink", "").replace("nv, )", "nv)")
    assert_fused(without, fuse_cache_update, to={"bascule.Attention": 1}, feeds=PLACES)


def test_caches_with_other_readers_are_kept() -> None:
    assert_kept(UPDATES.replace("(pv, v, first, all)", "(pv, v, other, all)"), fuse_cache_update)
    read = UPDATES.replace("float[1,1,8] y)", "float[1,1,8] y, float[1,1,4] z)")
    read = read.replace("y = b", "z = ReduceSum<keepdims = 0>(nk, first) y = b")
    assert_kept(read, fuse_cache_update)
    unknown = UPDATES.replace("float[1,1,6,4] pk", "float[1,h,6,4] pk")
    assert_kept(unknown, fuse_cache_update)
