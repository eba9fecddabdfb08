"""The Celery application that tests run: tasks that end in every way a task can."""

import os

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_send_sent_event=True,
    worker_send_task_events=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name="tests.add")
def add(x, y):
    return x + y


@app.task(name="tests.fail")
def fail(reason):
    raise ValueError(reason)


@app.task(name="tests.flaky", bind=True, max_retries=3)
def flaky(self, failures):
    """Fails as often as it is told to, and is tried again at once."""
    if self.request.retries < failures:
        raise self.retry(countdown=0, exc=RuntimeError("not yet"))
    return self.request.retries


@app.task(name="tests.progress", bind=True)
def progress(self, step):
    """Sends an event of its own."""
    self.send_event("task-progress", step=step)
    return step
