"""A shell at a terminal of its own: Ctrl-Z stops `lazaret run`, what is typed then is the shell's, and fg goes on.

Exit status 0 when all that happens; else a message. $LAZARET is the binary."""

import os
import pty
import select
import sys
import time

WAIT = 20
shell, terminal = pty.fork()
if shell == 0:
    os.environ["PS1"] = "ready> "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])

seen = b""


def expect(text):
    """Reads on until the terminal shows `text`; what comes after it is left for the next call."""
    global seen
    end = time.monotonic() + WAIT
    while text not in seen:
        if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f"waited for {text!r}, saw {seen!r}")
        seen += os.read(terminal, 4096)
    seen = seen[seen.index(text) + len(text):]


def say(text):
    os.write(terminal, text)


expect(b"ready> ")
say(b"$LAZARET run -- sh -c 'echo begun; cat; echo over'\n")
expect(b"begun\r\n")
say(b"inside\n")
expect(b"inside\r\ninside")
say(b"\x1a")
expect(b"Stopped")
expect(b"ready> ")
say(b"echo out''side\n")
expect(b"outside\r\n")
expect(b"ready> ")
say(b"fg\n")
expect(b"run -- sh")
say(b"again\n")
expect(b"again\r\nagain")
say(b"\x04")
expect(b"over\r\n")
expect(b"ready> ")
say(b"exit\n")
os.waitpid(shell, 0)
