"""What Ray starts as a worker in tests: it has the tests' own process fork one, and lives as long as that one.

It is a program of its own for every worker, so it imports next to nothing.
"""

import json
import os
import re
import socket
import sys

ASKED_AT = "STILLROOM_TESTS_WORKERS"  # names the socket

if __name__ == "__main__":
    variables, arguments = dict(os.environ), []
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        if name == "--serialized-runtime-env-context":
            for key, text in json.loads(value).get("env_vars", {}).items():
                variables[key] = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), text)
        elif name != "--language":
            arguments.append(argument)
    request = json.dumps([arguments, os.getcwd(), variables]).encode()
    ended, held = os.pipe()  # the worker holds one end for as long as it lives
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(os.environ[ASKED_AT])
        socket.send_fds(asked, [len(request).to_bytes(8, "big")], [held, 1, 2])
        asked.sendall(request)
        asked.recv(1)  # until all has been read
    os.close(held)
    os.read(ended, 1)
