# SPDX-License-Identifier: Apache-2.0
"""Masks never tell more than their rule."""

from __future__ import annotations

import re
import time
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from agent.lookup.mask import HIDDEN, KEEPS, apply
from agent.model.treatment import MaskKind, Treatment
from tests.support.tries import tries


@pytest.mark.parametrize(
    ("kind", "text", "left"),
    [
        ("name", "张三", "张*"),
        ("name", "欧阳小红", "欧***"),
        ("name", "买买提·吐尔逊", "买**·***"),
        ("name", "买买提•吐尔逊", "买**•***"),
        ("name", "𠮷田太郎", "𠮷***"),
        ("name", "Smith", "S****"),
        ("citizen_id", "11010519491231002X", "110***********002X"),
        ("citizen_id", "11010519491231002x", "110***********002x"),
        ("citizen_id", "130503670401001", "130********1001"),
        ("citizen_id_strict", "11010519491231002X", "1****************X"),
        ("mobile", "12012345678", "120****5678"),
        ("landline", "010-88123456", "010-******56"),
        ("landline", "01088123456", "010******56"),
        ("landline", "057188123456", "0571******56"),
        ("landline", "0400-6100012", "0400-*****12"),
        ("bank_card", "6222021234567890123", "622202*********0123"),
        ("address", "云溪市临河区人民路12号1单元101室", "云溪市临河区***"),
        ("address", "云溪市青川县解放路3号", "云溪市青川县***"),
        ("address", "浙江省杭州市西湖区文三路1号", "浙江省杭州市西湖区***"),
        ("address", "浙江省义乌市稠江街道1号", "浙江省义乌市***"),
        ("address", "广西壮族自治区百色市隆林各族自治县x", None),
        ("email", "zhang.san@example.com", "z***@example.com"),
        ("year", "1990-03-07", "1990"),
        ("year", "19900307", "1990"),
        ("year", "1969-12-31T23:59:59.123456Z", "1969"),
        ("plate", "京A12345", "京A1***5"),
        ("plate", "京AD12345", "京AD****5"),
        ("plate", "京A·12345", "京A·1***5"),
        ("hide", "anything", HIDDEN),
        ("hide", "", HIDDEN),
    ],
)
def test_each_kind_keeps_what_its_rule_says(
    kind: str, text: str, left: str | None
) -> None:
    """Both ends, the domain, the district, the year; all else is stars."""
    wanted = left or "广西壮族自治区百色市隆林各族自治县***"
    assert apply(kind, text) == wanted


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("name", ""),
        ("name", "张"),
        ("name", "张3"),
        ("name", "张三 110101199003070011"),
        ("name", "张*"),
        ("name", "·张三"),
        ("name", "张\n三"),
        ("name", "张" * 51),
        ("citizen_id", "１1010519491231002X"),
        ("citizen_id", "1101051949123100２X"),
        ("citizen_id", "11010519491231002X\n"),
        ("citizen_id", " 11010519491231002X"),
        ("citizen_id", "1101051949123"),
        ("citizen_id", "11010519491231002Х"),
        ("citizen_id_strict", "1X"),
        ("mobile", "1201234567"),
        ("mobile", "+8612012345678"),
        ("mobile", "120 1234 5678"),
        ("mobile", "22012345678"),
        ("mobile", "１２０１２３４５６７８"),
        ("mobile", "12012345678,12012345679"),
        ("landline", "88123456"),
        ("landline", "0571-88123456-8001"),
        ("landline", "057188-123456"),
        ("bank_card", "622202123456789"),
        ("bank_card", "6222 0212 3456 7890"),
        ("address", "人民路12号"),
        ("address", "云溪市临河区"),
        ("address", "云溪市人民路小区12号"),
        ("address", "云溪市老街坊市场3号"),
        ("address", "花鸟市场小区5号"),
        ("address", "临河区人民路12号"),
        ("address", "云溪市\n临河区人民路"),
        ("address", "云溪市临河区\n人民路"),
        ("email", "z@example.com"),
        ("email", "zhang@localhost"),
        ("email", "zhang@example.com, li@example.com"),
        ("email", "张三@example.com"),
        ("year", "1990"),
        ("year", "90-03-07"),
        ("year", "1990-03-07 "),
        ("year", "１990-03-07"),
        ("year", "1990年3月7日"),
        ("plate", "京A1234"),
        ("plate", "京a12345"),
        ("plate", "AA12345"),
        ("plate", "京A1234５"),
    ],
)
def test_another_form_is_hidden_wholly(kind: str, text: str) -> None:
    """Full-width digits, blanks, two values in one, too short: three stars."""
    assert apply(kind, text) == HIDDEN


@pytest.mark.parametrize("kind", list(MaskKind))
def test_null_stays_null_unless_it_is_hidden(kind: MaskKind) -> None:
    """Only ``hide`` does not even tell whether there is a value."""
    assert apply(kind, None) == (HIDDEN if kind is MaskKind.HIDE else None)


def test_an_unknown_kind_is_an_error() -> None:
    """It never passes a value on."""
    with pytest.raises(ValueError, match="rot13"):
        apply("rot13", "张三")


def test_every_kind_is_explained() -> None:
    """People read what each keeps, in two languages."""
    assert set(KEEPS) == set(MaskKind)
    assert all(text.en and text.zh for text in KEEPS.values())


def test_a_treatment_is_whole() -> None:
    """A mask has a kind, and nothing else has one."""
    for use, kind in (
        ("mask", None),
        ("show", MaskKind.NAME),
        ("verify", MaskKind.HIDE),
    ):
        with pytest.raises(ValueError, match="expected a kind"):
            Treatment(use, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(MaskKind))
def test_no_text_takes_long(kind: MaskKind) -> None:
    """The longest values an item may hold, of the characters that could be hard."""
    began = time.perf_counter()
    for piece in ("中", "自治", "市区县", "1", "a.", "0-", "·", "@a."):
        apply(kind, piece * (4000 // len(piece)))
    assert time.perf_counter() - began < 0.5


_digits: Any = st.text("0123456789", min_size=20, max_size=20)
_han = st.text("张王李赵伟芳娜敏", min_size=2, max_size=8)

SHAPES: dict[MaskKind, tuple[Any, str, int]] = {
    MaskKind.NAME: (_han, r".(?:\*+)", 1),
    MaskKind.CITIZEN_ID: (
        _digits.map(lambda d: d[:18]),
        r"[0-9]{3}\*{11}[0-9]{4}",
        7,
    ),
    MaskKind.CITIZEN_ID_STRICT: (
        _digits.map(lambda d: d[:18]),
        r"[0-9]\*{16}[0-9]",
        2,
    ),
    MaskKind.MOBILE: (
        _digits.map(lambda d: "1" + d[:10]),
        r"[0-9]{3}\*{4}[0-9]{4}",
        7,
    ),
    MaskKind.LANDLINE: (
        _digits.map(lambda d: "0571-" + d[:8]),
        r"0571-\*{6}[0-9]{2}",
        7,
    ),
    MaskKind.BANK_CARD: (
        _digits.map(lambda d: d[:19]),
        r"[0-9]{6}\*{9}[0-9]{4}",
        10,
    ),
    MaskKind.ADDRESS: (
        _han.map(lambda name: f"云溪市临河区{name}路1号"),
        r"云溪市临河区\*{3}",
        6,
    ),
    MaskKind.EMAIL: (
        _digits.map(lambda d: f"a{d}@example.com"),
        r"a\*{3}@example\.com",
        12,
    ),
    MaskKind.YEAR: (st.dates().map(str), r"[0-9]{4}", 4),
    MaskKind.PLATE: (_digits.map(lambda d: "京A" + d[:5]), r"京A[0-9]\*{3}[0-9]", 4),
}


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_of_a_value_of_the_form_exactly_so_much_is_kept(kind: MaskKind) -> None:
    """The form of what is left, and the number of characters that are kept."""
    values, form, most = SHAPES[kind]

    @tries(50)
    @given(values)
    def holds(text: str) -> None:
        left = apply(kind, text)
        assert left is not None
        assert re.fullmatch(form, left)
        assert len(re.sub(r"[*@-]", "", left)) <= most
        assert left != text

    holds()


@pytest.mark.parametrize(
    ("kind", "keep"),
    [
        (MaskKind.CITIZEN_ID, (3, 4)),
        (MaskKind.CITIZEN_ID_STRICT, (1, 1)),
        (MaskKind.BANK_CARD, (6, 4)),
    ],
)
def test_two_values_that_agree_in_what_is_kept_look_the_same(
    kind: MaskKind, keep: tuple[int, int]
) -> None:
    """The hidden part leaves no trace: it could be anything."""

    @tries(50)
    @given(_digits, _digits)
    def holds(one: str, other: str) -> None:
        first, last = keep
        one = one[:18]
        twin = one[:first] + other[first : 18 - last] + one[18 - last :]
        assert apply(kind, one) == apply(kind, twin)

    holds()


@tries(300)
@given(
    st.sampled_from(list(MaskKind)), st.text() | st.text("0123456789Xx-@.·市区县路张a")
)
def test_for_any_text_a_mask_tells_less_than_the_text(
    kind: MaskKind, text: str
) -> None:
    """What is left is hidden wholly, or differs from it and takes from it only."""
    left = apply(kind, text)
    assert left is not None
    if left == HIDDEN:
        return
    assert left != text
    assert set(left) - {"*"} <= set(text)
