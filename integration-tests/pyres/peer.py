"""An independent Resque client, PyPI's pyres. Its namespace is always `resque`.

usage: python peer.py enqueue-many REDIS_URL QUEUE CLASS FIRST COUNT
       python peer.py work REDIS_URL QUEUE MS

`work` prints `ready`, and stops in order when its standard input ends. It knows one class of jobs, jobs.Record.
"""

import os
import signal
import sys
import threading
from urllib.parse import urlsplit

from pyres import ResQ
from pyres.worker import Worker

import jobs


def enqueue_many(server, queue, name, first, count):
    resq = ResQ(server)
    for number in range(int(first), int(first) + int(count)):
        resq.enqueue_from_string(name, queue, number)


def work(server, queue, ms):
    jobs.Record.ms = int(ms)
    worker = Worker([queue], server)

    def stop_with_input():
        while os.read(0, 1024):
            pass
        # Its signal for the end of the job in hand.
        os.kill(worker.pid, signal.SIGQUIT)

    register = worker.register_worker

    def registered():
        register()
        print("ready", flush=True)
        worker.register_worker = register

    worker.register_worker = registered
    threading.Thread(target=stop_with_input, daemon=True).start()
    worker.work(interval=1)


action, url, *arguments = sys.argv[1:]
parts = urlsplit(url)
{"enqueue-many": enqueue_many, "work": work}[action](f"{parts.hostname}:{parts.port}", *arguments)
