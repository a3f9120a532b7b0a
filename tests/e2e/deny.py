"""deny.py WHAT[,WHAT...] COMMAND [ARG...]: COMMAND, for which the host lacks what is named.

namespaces: clone with flags for new ones, unshare and mount fail with EPERM, clone3 with ENOSYS, as in a container
with Docker's default profile. landlock: its calls fail with ENOSYS, as on a kernel without it. docker: all that Docker's
default profile blocks in a container without capabilities (docs.docker.com/engine/security/seccomp)."""

import ctypes
import os
import struct
import sys

EPERM, ENOSYS = 1, 38
# syslog, uselib, ustat, sysfs, vhangup, pivot_root, _sysctl, chroot to reboot, set*name, iopl, ioperm, modules, quotactl,
# what was never built, lookup_dcookie, clock_settime, memory policies, kexec, keys, pages' places, perf_event_open,
# fanotify_init, open_by_handle_at, setns, kcmp, bpf, userfaultfd, io_uring, the mount calls, pidfd_getfd, process_madvise,
# and what came later than the profile.
DOCKER = [103, 134, 136, 139, 153, 155, 156, 161, *range(163, 186), 212, 227, *range(236, 240), 246, *range(248, 251)]
DOCKER += [256, 272, 279, 298, 300, 304, 308, 312, 313, 320, 321, 323, *range(425, 434), 438, 440, 442, 443, 450]
DOCKER += [459, 460, 461, *range(467, 512)]
CALLS = {
    "namespaces": {272: EPERM, 165: EPERM, 435: ENOSYS},  # unshare, mount, clone3
    "docker": dict.fromkeys(DOCKER, EPERM) | {435: ENOSYS},
    "landlock": {444: ENOSYS, 445: ENOSYS, 446: ENOSYS},
}
CLONE, NEW_NAMESPACES = 56, 0x7E020000
PERSONALITY, PERSONALITIES = 135, [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]
SOCKET, VSOCK = 41, 40
# struct seccomp_data: the number, and the first argument's low half. struct sock_filter: code, jt, jf, k.
NUMBER, FIRST = 0, 16
LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2

names = sys.argv[1].split(",")
code = [(LOAD, 0, 0, NUMBER)]
for name in names:
    for call, errno in CALLS[name].items():
        code += [(JUMP_IF_EQUAL, 0, 1, call), (RETURN, 0, 0, ERRNO | errno)]
if "namespaces" in names or "docker" in names:
    code += [
        (JUMP_IF_EQUAL, 0, 3, CLONE),
        (LOAD, 0, 0, FIRST),
        (JUMP_IF_SET, 0, 1, NEW_NAMESPACES),
        (RETURN, 0, 0, ERRNO | EPERM),
    ]
if "docker" in names:
    code += [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 2 + len(PERSONALITIES), PERSONALITY), (LOAD, 0, 0, FIRST)]
    code += [(JUMP_IF_EQUAL, len(PERSONALITIES) - at, 0, value) for at, value in enumerate(PERSONALITIES)]
    code += [(RETURN, 0, 0, ERRNO | EPERM)]
    code += [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 3, SOCKET), (LOAD, 0, 0, FIRST)]
    code += [(JUMP_IF_EQUAL, 0, 1, VSOCK), (RETURN, 0, 0, ERRNO | EPERM)]
code.append((RETURN, 0, 0, ALLOW))

program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *insn) for insn in code))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, MODE_FILTER, filter):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[2], sys.argv[2:])
