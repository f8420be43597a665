"""How much the properties try: a slice that is the same in every run, or, with MCBN_PROPERTIES=long, a long search.

In the slice a change of the code is the only thing that can turn a test red: the examples follow from the test alone,
and a failure comes again. The long search draws anew each time; what it finds is printed as a program and as a blob.
"""

import os
from typing import Any, Final

from hypothesis import HealthCheck, settings

LONG: Final = os.environ.get("MCBN_PROPERTIES") == "long"
LONGER: Final = 20


def budget(examples: int, **changes: Any) -> settings:
    """Settings for about this many examples in the slice, and twenty times as many in the long search."""
    return settings(
        max_examples=examples * (LONGER if LONG else 1),
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **changes,
    )
