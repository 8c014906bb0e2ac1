# SPDX-License-Identifier: Apache-2.0
"""Why a value of a source cannot be carried: one stable code per reason."""

from __future__ import annotations

from agent.errors import Text

UNDECODABLE = "undecodable"
NUL = "nul_char"
TOO_LONG = "too_long"
BAD_NUMBER = "bad_number"
OUT_OF_RANGE = "out_of_range"
BAD_DATE = "bad_date"
BAD_TIME = "bad_time"
TIME_GAP = "time_gap"
TIME_AMBIGUOUS = "time_ambiguous"
BAD_BOOLEAN = "bad_boolean"

TITLES: dict[str, Text] = {
    UNDECODABLE: Text("the bytes are not text", "文本无法解码"),
    NUL: Text("the text holds U+0000", "文本含空字符 U+0000"),
    TOO_LONG: Text("longer than the catalog allows", "超过目录规定长度"),
    BAD_NUMBER: Text("not a number", "不是数值"),
    OUT_OF_RANGE: Text("does not fit precision, scale or range", "超出精度或范围"),
    BAD_DATE: Text("not a date", "不是日期"),
    BAD_TIME: Text("not a date and time", "不是日期时间"),
    TIME_GAP: Text("a local time that never was", "不存在的本地时间（夏令时）"),
    TIME_AMBIGUOUS: Text("a local time that was twice", "有歧义的本地时间（夏令时）"),
    BAD_BOOLEAN: Text("neither true nor false", "不是逻辑值"),
}
"""What each code means, for people."""
