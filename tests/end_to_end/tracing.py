"""strace, attached to a running program: it sees or disturbs system calls from that moment on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.end_to_end.network import Program


@contextmanager
def traced(strace: str, process: int, *options: str) -> Iterator[None]:
    """Attach; ended by the traced program's end, or detached at the end of the block.

    Args:
        strace: The program.
        process: A process or a thread.
        options: What to trace and what to inject.
    """
    with Program([strace, "-p", str(process), *options], environment={}) as tracer:
        tracer.line("attached")
        yield
        tracer.process.send_signal(signal.SIGINT)
        tracer.ended()
