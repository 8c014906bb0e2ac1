# SPDX-License-Identifier: Apache-2.0
"""Rows to columns in C, for the readers that would else make an object of each value.

``columns.c`` holds the columns, one further file for each database cuts what it sends;
``utf8.c`` and ``rules.c`` look at columns of texts. The files are compiled to one small
library (``scripts/native``), which ctypes loads: while it works the interpreter's lock
is free.
"""
