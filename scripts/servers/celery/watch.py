"""What Celery's own receiver knows of the tasks when they have ended, as JSON lines: the measure of what we make of their events."""

import json

from tasks import app

state = app.events.State()


def ended(event):
    state.event(event)
    task = state.tasks.get(event["uuid"])
    told = {
        "task_event": event["type"],
        "task_name": task.name,
        "task_id": task.uuid,
        "task_info": task.info(),
        "task_state": task.state,
        "task_runtime": task.runtime,
    }
    print(json.dumps(told), flush=True)


with app.connection_for_read() as connection:
    handlers = {"*": state.event, "task-succeeded": ended, "task-failed": ended}
    receiver = app.events.Receiver(connection, handlers=handlers)
    receiver.on_consume_ready = lambda *_, **__: print("WATCHING", flush=True)
    receiver.capture(limit=None, timeout=None, wakeup=False)
