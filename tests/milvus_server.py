"""Run a Milvus server on this machine until the standard input ends; for the tests alone.

It needs ``pip install milvus==2.3.5``, the last version that comes as one package. It prints the
port and the process once the server answers. Run it where only the loopback is reached: it listens
on every address that there is. With ``--authorize`` behind the folder it asks for a token, which is
``root:Milvus``.
"""

import os
import sys


def main() -> None:
    from milvus import MilvusServer  # of another environment than that of the tests

    server = MilvusServer()
    server.config.set("authorization_enabled", "--authorize" in sys.argv)
    server.set_base_dir(sys.argv[1])
    try:
        server.start()
        print(server.listen_port, server.server_proc.pid, flush=True)
        sys.stdin.read()
    except Exception as error:  # noqa: BLE001  # of any kind; the end below would hide it
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        server.stop()
        sys.stdout.flush()
        os._exit(0)  # its destructor would stop it once more


if __name__ == "__main__":
    main()
