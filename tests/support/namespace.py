"""Makes sockets in the network namespace that it runs in, and hands them out: a socket belongs to the namespace that it was
made in, whoever holds it.

    unshare --net python3 namespace.py DOOR [ADDRESS...]

Brings the loopback interface up with these addresses on it beside its own, prints `open`, and answers at the Unix socket DOOR,
one request a connection: `listen ADDRESS PORT` or `connect ADDRESS PORT`. The answer is `ok` with a descriptor, or what is
wrong.
"""

import fcntl
import ipaddress
import os
import socket
import struct
import sys

# ioctl requests of linux/sockios.h, and two flags of linux/if.h.
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCGIFINDEX = 0x8914, 0x8916, 0x891C, 0x8933
IFF_UP, IFF_RUNNING = 0x1, 0x40


def ifreq(name, content):
    return struct.pack("16s24s", name.encode(), content)


def bring_up(addresses):
    """Gives the loopback interface these addresses, each for itself alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        fcntl.ioctl(four, SIOCSIFFLAGS, ifreq("lo", struct.pack("H", IFF_UP | IFF_RUNNING)))
        index = struct.unpack("16si20x", fcntl.ioctl(four, SIOCGIFINDEX, ifreq("lo", b"")))[1]
        for number, address in enumerate(addresses):
            if address.version == 4:
                # A further IPv4 address is that of an alias.
                for request, value in [(SIOCSIFADDR, address.packed), (SIOCSIFNETMASK, b"\xff" * 4)]:
                    fcntl.ioctl(four, request, ifreq(f"lo:{number}", struct.pack("HH4s", socket.AF_INET, 0, value)))
            else:
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
                    fcntl.ioctl(six, SIOCSIFADDR, struct.pack("16sIi", address.packed, 128, index))


def make(what, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    if what == "listen":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, int(port)))
        made.listen(1024)
    else:
        made.connect((address, int(port)))
    return made


def answer(asker):
    request = b""
    while part := asker.recv(1024):
        request += part
    try:
        with make(*request.decode().split()) as made:
            socket.send_fds(asker, [b"ok"], [made.fileno()])
    except OSError as error:
        asker.sendall(os.strerror(error.errno).encode())


def main(door, *addresses):
    bring_up([ipaddress.ip_address(address) for address in addresses])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(door)
        server.listen(1024)
        print("open", flush=True)
        while True:
            asker, _ = server.accept()
            with asker:
                answer(asker)


if __name__ == "__main__":
    main(*sys.argv[1:])
