# SPDX-License-Identifier: Apache-2.0
"""The daemon's memory; this package alone opens SQLite.

Rules

1. One process holds the database (a lock file), one connection writes it, one lock
   serialises the threads that use it.
2. A change that must not be seen half is one transaction of one method.
3. A batch is registered after its file is durable; the same transaction advances the
   chain and stores the run's resume token, or the frontier on the run's last batch.
4. What was registered, received or signed is never deleted; only payload files go.
"""

from agent.state import alone as alone
from agent.state.deaths import Deaths
from agent.state.leftovers import Leftover
from agent.state.reconciles import KeptComparison, KeptRecall
from agent.state.records import (
    Batch,
    Catalog,
    Complete,
    Count,
    DiskSample,
    Epoch,
    KeptDue,
    KeptFrontier,
    KeptReceipt,
    NewBatch,
    NewReceipt,
    Opened,
    Place,
    Proof,
    Run,
    RunEnd,
    RunTotals,
    SeenColumns,
    Stream,
    StreamKey,
    Sums,
)
from agent.state.store import ALL, State
from agent.state.trust import KeptRole, KeptTrust, Stopped, Trusts, falls

__all__ = [
    "ALL",
    "Batch",
    "Catalog",
    "Complete",
    "Count",
    "Deaths",
    "DiskSample",
    "Epoch",
    "KeptComparison",
    "KeptDue",
    "KeptFrontier",
    "KeptRecall",
    "KeptReceipt",
    "KeptRole",
    "KeptTrust",
    "Leftover",
    "NewBatch",
    "NewReceipt",
    "Opened",
    "Place",
    "Proof",
    "Run",
    "RunEnd",
    "RunTotals",
    "SeenColumns",
    "State",
    "Stopped",
    "Stream",
    "StreamKey",
    "Sums",
    "Trusts",
    "falls",
]
