import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { CeleryEventSource } from './celery-event.source.js';
import { resolveCelery } from './celery-source.options.js';

const resolve = (options: object) => resolveCelery('Feed', { url: 'redis://host', ...options } as never);

describe('the options of a CeleryEventSource', () => {
  it('have defaults', () => {
    const options = resolve({});
    expect(options).toMatchObject({ raw: false, unstorable: 'skip', exchange: 'celeryev', rememberTasks: 10_000 });
    expect(['task-succeeded', 'task-failed', 'task-sent', 'task-revoked'].filter(options.wanted)).toEqual([
      'task-succeeded',
      'task-failed',
    ]);
  });

  it.each([
    [{}, ['task']],
    [{ events: '*' }, ['task']],
    [{ raw: true }, ['task']],
    [{ raw: true, events: ['worker-online', 'worker-offline', 'task-failed'] }, ['worker', 'task']],
    [{ raw: true, events: '*' }, undefined],
  ])('listen to no more than what is wanted: %o', (options, families) => {
    expect(resolve(options).families).toEqual(families);
  });

  it('want only events of tasks where messages are made of them', () => {
    expect(['worker-online', 'task-anything'].filter(resolve({ events: '*' }).wanted)).toEqual(['task-anything']);
    expect(['worker-online', 'task-anything'].filter(resolve({ events: '*', raw: true }).wanted)).toHaveLength(2);
  });

  it.each([
    [{ url: 'http://host' }, /url is 'http:\/\/host'/],
    [{ events: [] }, /events is \[\]/],
    [{ events: ['succeeded'] }, /events is \['succeeded'\]; allowed: '\*', or a list of 'task-succeeded'/],
    [{ events: ['worker-online'] }, /others only with raw: true/],
    [{ raw: 'yes' }, /raw is 'yes'/],
    [{ queue: 'q' }, /queue is 'q'; allowed: nothing here: it needs RabbitMQ, and url is redis:\/\/host/],
    [{ prefetch: 5 }, /it needs RabbitMQ/],
    [{ url: 'amqp://mq', maxPending: 5 }, /it needs Redis/],
    [{ url: 'amqp://mq', keyPrefix: 'a' }, /it needs Redis/],
    [{ url: 'amqp://mq', prefetch: 70_000 }, /prefetch is 70000; allowed: at most 65535/],
    [{ url: 'amqp://mq', queue: '' }, /queue is ''/],
    [{ maxPending: 0 }, /maxPending is 0/],
    [{ rememberTasks: -1 }, /rememberTasks is -1/],
    [{ unstorable: 'keep' }, /unstorable is 'keep'; allowed: 'skip', 'fail', or a function/],
    [{ malformed: 'drop' }, /malformed is 'drop'; allowed: 'keep', 'skip', or a function/],
    [
      { unstorable: 'hold' },
      /unstorable is 'hold'; allowed: 'skip', 'fail', or a function; 'hold' needs a broker that ack/,
    ],
    [{ exchange: 1 }, /exchange is 1/],
    [{ tls: {} }, /tls is an object; allowed: nothing here: url is redis:\/\/host/],
    [{ url: 'rediss://host', tls: 'yes' }, /tls is 'yes'/],
    [{ topic: 'x' }, /unknown option 'topic'/],
  ])('%# refuses nonsense', (options, message) => {
    expect(() => resolve(options)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it('say what a subclass has to do, and which one', () => {
    class TaskFeed extends CeleryEventSource {}
    expect(() => Reflect.construct(TaskFeed, [])).toThrow(/TaskFeed.*call super\(\{ url/);
  });
});
