import { ErrorCode } from 'nestjs-minibatch';
import { KafkaSource } from 'nestjs-minibatch/kafka';
import { describe, expect, it } from 'vitest';

describe('the options of KafkaSource', () => {
  const kafka = { brokers: ['localhost:9092'] };

  it.each([
    [{}, /Feed: kafka is undefined; allowed: a Kafka client/],
    [{ kafka: { brokers: [] }, topics: 'a' }, /kafka is an object; allowed/],
    [{ kafka }, /topics is undefined/],
    [{ kafka, topics: [] }, /topics is \[\]/],
    [{ kafka, topics: [''] }, /topics is \[''\]/],
    [{ kafka, topics: 'a', format: 'avro' }, /format is 'avro'; allowed: 'json', 'string', 'bytes', or a function/],
    [{ kafka, topics: 'a', malformed: 'drop' }, /malformed is 'drop'; allowed: 'keep', 'skip', or a function/],
    [{ kafka, topics: 'a', unstorable: 'keep' }, /unstorable is 'keep'; allowed: 'skip', 'fail', or a function/],
    [
      { kafka, topics: 'a', largeIntegers: 'round' },
      /largeIntegers is 'round'; allowed: 'bigint', 'malformed', 'number'/,
    ],
    [{ kafka, topics: 'a', dedupeId: true }, /dedupeId is true; allowed: a function of the record, or false/],
    [{ kafka, topics: 'a', dedupeId: false, replay: 'b' }, /replay is 'b'; allowed: none with dedupeId/],
    [{ kafka, topics: 'a', replay: '' }, /replay is ''/],
    [{ kafka, topics: 'a', key: 'id' }, /key is 'id'; allowed: a function of the record/],
    [{ kafka, topics: 'a', maxAppendTime: 5 }, /maxAppendTime is 5/],
    [{ kafka, topics: 'a', batch: 0 }, /batch is 0/],
    [{ kafka, topics: 'a', groupId: '' }, /groupId is ''/],
    [{ kafka, topics: 'a', topic: 'b' }, /unknown option 'topic'/],
    [{ kafka, topics: 'a', consumer: { groupId: 'b' } }, /Feed: consumer: unknown option 'groupId'/],
  ])('%# refuses nonsense', (options, message) => {
    class Feed extends KafkaSource {}
    expect(() => new Feed(options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it('say what a subclass has to do', () => {
    class Feed extends KafkaSource {}
    expect(() => Reflect.construct(Feed, [])).toThrow(/Feed.*call super\(\{ kafka, topics/);
  });
});
