"""Sends tasks: a JSON list of {name, args, kwargs, options, times} on stdin, the ids as a JSON list on stdout."""

import json
import sys

from tasks import app

ids = []
with app.connection_for_write() as connection:
    for call in json.load(sys.stdin):
        for _ in range(call.get("times", 1)):
            result = app.send_task(
                call["name"],
                args=call.get("args", []),
                kwargs=call.get("kwargs", {}),
                connection=connection,
                **call.get("options", {}),
            )
            ids.append(result.id)
json.dump(ids, sys.stdout)
