# SPDX-License-Identifier: Apache-2.0
"""Resource documents (政务信息资源目录): what may be shared, and what leaves.

``document`` is the model, ``folder`` reads files, ``lint`` judges them, ``gate`` alone
makes what the pipeline takes; ``codes`` and ``identifiers`` are plain tables and
checks, which a worker process may import too.
"""
