"""Run a command where there is no network but loopback, not even for what it starts: python -m tests.house.offline COMMAND...

A network namespace of its own: sockets of native libraries and of child processes are in it too. Linux only; where the kernel
does not allow it, it says so and ends with 75.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

NEW_USER, NEW_NET = 0x10000000, 0x40000000
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 0x1
NOT_POSSIBLE = 75
"""What sysexits.h calls a temporary failure."""


def leave_network() -> None:
    """Move this process into a network namespace that has loopback alone.

    Raises:
        OSError: when the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    flags = NEW_NET if user == 0 else NEW_NET | NEW_USER
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace of its own")
    if flags & NEW_USER:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket() as any_socket:
        request = struct.pack("16sh", b"lo", 0)
        told = struct.unpack("16sh", fcntl.ioctl(any_socket, GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh", b"lo", told | UP))


if __name__ == "__main__":
    try:
        leave_network()
    except (OSError, AttributeError) as error:
        print(f"cannot leave the network here: {error}", file=sys.stderr)
        sys.exit(NOT_POSSIBLE)
    os.execvp(sys.argv[1], sys.argv[1:])
