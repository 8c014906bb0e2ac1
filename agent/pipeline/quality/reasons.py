# SPDX-License-Identifier: Apache-2.0
"""Why a row is withheld: one stable code per reason, the first that holds decides.

Codes of a value that its type cannot carry are always quarantined, because it cannot
travel. Codes of rules follow the severity that the settings give them.
"""

from __future__ import annotations

from agent.errors import Text

DUPLICATE_KEY = "duplicate_key"
KEY_MISSING = "key_missing"
KEY_ORDER = "key_order"
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

REQUIRED = "required"
CODE_LIST = "code_list"
CITIZEN_ID = "citizen_id"
CITIZEN_ID_15 = "citizen_id_15"
CITIZEN_ID_FORM = "citizen_id_form"
USCC = "uscc"
USCC_FORM = "uscc_form"
SECRECY_MARKER = "secrecy_marker"

RULES = (
    REQUIRED,
    CODE_LIST,
    CITIZEN_ID,
    CITIZEN_ID_15,
    CITIZEN_ID_FORM,
    USCC,
    USCC_FORM,
    SECRECY_MARKER,
)
"""Codes that have a severity in the settings; the others are always quarantined."""

TITLES: dict[str, Text] = {
    DUPLICATE_KEY: Text("the key stands in an earlier row", "主键重复"),
    KEY_MISSING: Text("a key item is empty", "主键为空"),
    KEY_ORDER: Text(
        "the key is out of order: bind a text column as C, not as a number or date",
        "主键次序倒退：文本字段请按字符型 C 绑定",
    ),
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
    REQUIRED: Text("a required item is empty", "必填项为空"),
    CODE_LIST: Text("not a code of the list", "不在代码表内"),
    CITIZEN_ID: Text("not a valid citizen number (GB 11643)", "公民身份号码校验不通过"),
    CITIZEN_ID_15: Text("a citizen number of 15 digits", "15 位旧身份证号"),
    CITIZEN_ID_FORM: Text(
        "a citizen number in an unusual form", "公民身份号码书写不规范"
    ),
    USCC: Text("not a valid credit code (GB 32100)", "统一社会信用代码校验不通过"),
    USCC_FORM: Text("a credit code in an unusual form", "统一社会信用代码书写不规范"),
    SECRECY_MARKER: Text("carries a secrecy marking", "带有密级标识"),
}
"""What each code means, for people."""
