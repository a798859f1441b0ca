"""Echo by gevent: a greenlet a connection.

The protocol and the options are those of `peers serve`; see ../src/serve.
"""

import argparse
import os
import resource
import signal
import socket as system
import struct
import sys

import gevent
from gevent import socket

BUFFER = 16384


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--buffer", type=int)
    parser.add_argument("--mode", choices=["echo", "sink", "idle"], default="echo")
    return parser.parse_args()


def echo(connection, size):
    # As everybody writes it.
    with connection:
        while data := connection.recv(size):
            connection.sendall(data)


def lean_echo(connection, _size):
    # A recv makes the object to read into before it waits; so we wait first.
    descriptor = connection.fileno()
    with connection:
        while True:
            socket.wait_read(descriptor)
            data = connection.recv(BUFFER)
            if not data:
                return
            connection.sendall(data)


def sink(connection, size):
    with connection:
        buffer = bytearray(size)
        total = 0
        while count := connection.recv_into(buffer):
            total += count
        connection.sendall(struct.pack("<Q", total))


def attend(handle, connection, size):
    try:
        connection.setsockopt(system.IPPROTO_TCP, system.TCP_NODELAY, 1)
        handle(connection, size)
    except OSError:
        pass  # whether it ended well is the client's to judge


def leave():
    # Without taking thousands of greenlets apart.
    sys.stdout.flush()
    os._exit(0)


def end_with_stdin():
    while True:
        socket.wait_read(0)
        if not os.read(0, 4096):
            leave()


def main():
    options = arguments()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.mode == "sink":
        handle = sink
    elif options.buffer == 0 or (options.mode == "idle" and options.buffer is None):
        handle = lean_echo
    else:
        handle = echo
    size = options.buffer or BUFFER
    for number in signal.SIGTERM, signal.SIGINT:
        gevent.signal_handler(number, leave)
    listener = socket.socket()
    listener.setsockopt(system.SOL_SOCKET, system.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(4096)
    gevent.spawn(end_with_stdin)
    print("listening 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        gevent.spawn(attend, handle, connection, size)


if __name__ == "__main__":
    main()
