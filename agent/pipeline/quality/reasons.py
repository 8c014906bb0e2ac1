# SPDX-License-Identifier: Apache-2.0
"""Why a row is withheld: one stable code per reason, the first that holds decides.

Codes of a value that its type cannot carry stand in ``agent.values.reasons``; they are
always quarantined, because such a value cannot travel. Codes of rules follow the
severity that the settings give them.
"""

from __future__ import annotations

from agent.errors import Text
from agent.values import reasons as values

DUPLICATE_KEY = "duplicate_key"
KEY_MISSING = "key_missing"
KEY_ORDER = "key_order"

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
    **values.TITLES,
    DUPLICATE_KEY: Text("the key stands in an earlier row", "主键重复"),
    KEY_MISSING: Text("a key item is empty", "主键为空"),
    KEY_ORDER: Text(
        "the key is out of order: bind a text column as C, not as a number or date",
        "主键次序倒退：文本字段请按字符型 C 绑定",
    ),
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
