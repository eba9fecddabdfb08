"""Driven by lines of JSON on stdin, each answered by one on stdout; started by python-minibatch.mjs."""

import json
import queue
import sys

import minibatch
from minibatch import make_emitter

URL, NAME = sys.argv[1], sys.argv[2]


def numbers(window):
    """The handler; it runs in a process of the emitter's pool, so what it has seen goes to the sink."""
    return [message['n'] for message in window.data]


class Sink:
    def __init__(self, total):
        self.seen, self.total, self.done = [], total, queue.Queue()

    def put(self, data):
        self.seen.extend(data)
        if len(self.seen) >= self.total:
            self.done.put(True)


def append(stream, first, count, text):
    for n in range(first, first + count):
        stream.append({'n': n, 'text': text})
    return {}


def drain(size, total):
    sink = Sink(total)
    emitter = make_emitter(NAME, numbers, size=size, url=URL, sink=sink, queue=sink.done)
    emitter.run()
    return {'seen': sink.seen}


def main():
    stream = minibatch.stream(NAME, url=URL)
    print(json.dumps({'ready': True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order['do'] == 'append':
            answer = append(stream, order['first'], order['count'], 'x' * order['bytes'])
        else:
            answer = drain(order['size'], order['total'])
        print(json.dumps(answer), flush=True)


if __name__ == '__main__':
    main()
