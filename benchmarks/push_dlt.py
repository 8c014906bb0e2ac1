# SPDX-License-Identifier: Apache-2.0
"""dlt reads ``population`` once and writes Parquet; run by a Python that has dlt.

Its fastest backend is ConnectorX with a stream of Arrow batches. Started by
``push_peers`` as ``PYTHON push_dlt.py URL SCHEMA FOLDER``; the URL is SQLAlchemy's.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Load the table."""
    url, schema, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    dlt = import_module("dlt")
    pipeline = dlt.pipeline(
        "population",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.filesystem(bucket_url=str(folder / "out")),
        dataset_name="centre",
    )
    table = import_module("dlt.sources.sql_database").sql_table(
        credentials=url,
        schema=schema,
        table="population",
        backend="connectorx",
        backend_kwargs={"return_type": "arrow_stream"},
    )
    pipeline.run(table, loader_file_format="parquet")


if __name__ == "__main__":
    main()
