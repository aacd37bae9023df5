"""A few flips of each kind; `make flips` tries 400."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.flips.__main__ import cases, damaged, is_fault
from tests.flips.kinds import KINDS, make


def test_a_flip_is_the_same_again_and_changes_one_bit_or_cuts() -> None:
    content = bytes(range(200))
    for number in range(50):
        one, what = damaged(content, random.Random(number))
        assert (one, what) == damaged(content, random.Random(number))
        if what.startswith("cut"):
            assert content.startswith(one)
            assert len(one) < len(content)
        else:
            bits = [bin(a ^ b).count("1") for a, b in zip(content, one, strict=True)]
            assert sum(bits) == 1


@pytest.mark.slow
def test_no_damage_is_silent_or_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    ends = [(kind, *end) for kind in KINDS for end in cases(kind, range(6), 1, tmp_path)]
    assert [(kind.name, end, what) for kind, end, what in ends if is_fault(kind, end)] == []
