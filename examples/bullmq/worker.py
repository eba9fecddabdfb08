"""Handles the windows of `@Streaming('orders', …)` in Python: pip install bullmq pymongo

The executor `bullmq` of nestjs-minibatch puts each window into the queue `minibatch.<stream>.<group>`. Its messages are in
MongoDB's Extended JSON, which the package `bson` reads and writes: dates, object ids and long integers keep their types.
"""

import asyncio
import json
import os
import signal

from bson import json_util
from bson.int64 import Int64
from bullmq import Worker

PROTOCOL = 1
# An Int64 becomes a bigint in JavaScript, whose numbers are exact only up to 2 ** 53.
EXACT = json_util.CANONICAL_JSON_OPTIONS
# The same as that of the executor, in milliseconds.
LOCK = int(os.environ.get("LOCK", "10000"))


def total(window):
    """The method: what it returns goes to the sinks, and what it rejects becomes dead letters."""
    rejected = [
        {"id": message["id"], "error": "negative amount"}
        for message in window
        if message["data"]["amount"] < 0
    ]
    bad = {rejection["id"] for rejection in rejected}
    good = [message["data"] for message in window if message["id"] not in bad]
    if any(order["amount"] == 13 for order in good):
        raise ValueError("13 brings bad luck")
    if not good:
        return None, rejected
    result = {
        "total": Int64(sum(order["amount"] for order in good)),
        "last": max(order["at"] for order in good),
    }
    return result, rejected


async def handle(job, token):
    if job.data.get("v") != PROTOCOL:
        raise RuntimeError(f"this worker speaks version {PROTOCOL} of the protocol")
    if "messages" not in job.data:
        # Larger than 1 MiB ("ids"), or with a value that has no Extended JSON ("task").
        raise RuntimeError("this worker takes only windows whose messages are in the job")
    window = json_util.loads(json.dumps(job.data["messages"]))
    result, rejected = total(window)
    outcome = {"rejected": rejected}
    if result is not None:
        outcome["result"] = json.loads(json_util.dumps(result, json_options=EXACT))
    return outcome


async def main():
    stopped = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    worker = Worker(
        "minibatch.orders.default",
        handle,
        {
            "connection": os.environ.get("REDIS_URL", "redis://localhost:6379"),
            "prefix": os.environ.get("PREFIX", "bull"),
            "lockDuration": LOCK,
            "stalledInterval": LOCK,
            # The emitter decides what runs again.
            "maxStalledCount": 0,
        },
    )
    await stopped.wait()
    await worker.close()


asyncio.run(main())
