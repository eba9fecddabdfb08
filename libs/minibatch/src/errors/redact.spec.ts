import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { invalidOption } from '../common/checks.js';
import { messageOf, stackOf } from './error-text.js';
import { ErrorCode, MinibatchError } from './minibatch.error.js';
import { isAmbiguousUrl, isSecret, redact, redactCause, redactUrl, redactValue } from './redact.js';

const texts: [what: string, text: string, clean: string][] = [
  ['a URL', 'mongodb://ann:S3CRET@db:27017/app is away', 'mongodb://***@db:27017/app is away'],
  ['a password with an @', 'mongodb://ann:S3C@RET@db/app', 'mongodb://***@db/app'],
  ['a password with a slash', 'amqp://ann:S3C/RET@mq:5672//', 'amqp://***@mq:5672//'],
  ['a password with a # and a ?', 'redis://:S3C#R?ET@cache/0', 'redis://***@cache/0'],
  [
    'a password with a space, in quotes',
    'Invalid "mongodb://ann:S3C RET@db/app" given',
    'Invalid "mongodb://***@db/app" given',
  ],
  ['a user alone', 'https://S3CRET@api.example.com/v1', 'https://***@api.example.com/v1'],
  ['several hosts', 'mongodb://a:S3CRET@h1:1,h2:2/?replicaSet=r', 'mongodb://***@h1:1,h2:2/?replicaSet=r'],
  ['several URLs', 'amqp://a:S3CRET@x, amqp://b:S3CRET@y', 'amqp://***@x, amqp://***@y'],
  ['no credentials', 'GET http://db:8080/a?b=c failed', 'GET http://db:8080/a?b=c failed'],
  ['a parameter', 'https://h/p?user=ann&password=S3CRET&x=1', 'https://h/p?user=ann&password=***&x=1'],
  [
    'a TLS parameter',
    'mongodb://h/?tlsCertificateKeyFilePassword=S3CRET&w=1',
    'mongodb://h/?tlsCertificateKeyFilePassword=***&w=1',
  ],
  [
    'an AWS token',
    'mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:S3CRET',
    'mongodb://h/?authMechanismProperties=***',
  ],
  ['a signed URL', 'https://h/b?sig=S3CRET&access_token=S3CRET', 'https://h/b?sig=***&access_token=***'],
  ['a JDBC-like option', 'sasl.password=S3CRET sasl.username=ann', 'sasl.password=*** sasl.username=ann'],
  ['JSON', '{"user":"ann","password":"S3C\\"RET"}', '{"user":"ann","password": "***"}'],
  ['a header', 'Authorization failed: Bearer S3CRETS3CRET', 'Authorization failed: Bearer ***'],
  ['a private key', 'key: -----BEGIN RSA PRIVATE KEY-----\nS3CRET\n-----END RSA PRIVATE KEY-----, ca', 'key: ***, ca'],
  [
    'an object as Node prints it',
    "{ user: 'ann', password: 'S3CRET', apiKey: 'S3CRET' }",
    "{ user: 'ann', password: '***', apiKey: '***' }",
  ],
  ['a DSN with quotes', "host=h password='S3C RET' user=ann", 'host=h password=*** user=ann'],
  [
    'JSON in JSON',
    '"{\\"user\\":\\"ann\\",\\"password\\":\\"S3CRET\\"}"',
    '"{\\"user\\":\\"ann\\",\\"password\\": \\"***\\"}"',
  ],
  ['YAML', 'sasl:\n  username: ann\n  password: S3CRET\n', 'sasl:\n  username: ann\n  password: ***\n'],
  ['a variable', 'DATABASE_PASSWORD: "S3C RET", PGPASSWORD=S3CRET', 'DATABASE_PASSWORD: "***", PGPASSWORD=***'],
  ['a header with a key', 'x-api-key: S3CRET rejected', 'x-api-key: *** rejected'],
  ['the same in a stack', 'Error: x-api-key: S3CRET rejected\n    at f', 'Error: x-api-key: *** rejected\n    at f'],
  ['cookies', 'Set-Cookie: session=S3CRET; Path=/\nCookie: a=S3CRET', 'Set-Cookie: ***\nCookie: ***'],
  ['a command line', 'mongodump --password S3CRET --host h', 'mongodump --password *** --host h'],
  [
    'a URL signed by AWS',
    'https://h/b?X-Amz-Signature=S3CRET&X-Amz-Date=1',
    'https://h/b?X-Amz-Signature=***&X-Amz-Date=1',
  ],
  ['a sentence about a password', 'wrong password: try another', 'wrong password: try another'],
  ['words that sound like it', 'the token=position of onLostToken, key=a', 'the token=*** of onLostToken, key=a'],
  ['an email address', 'mail ann@example.com', 'mail ann@example.com'],
  ['nothing', '', ''],
];

describe('redact', () => {
  it.each(texts)('%s', (_what, text, clean) => {
    expect(redact(text)).toBe(clean);
    // What is clean stays as it is.
    expect(redact(clean)).toBe(clean);
  });

  it('takes linear time on hostile text', () => {
    for (const part of [
      '://',
      'a=',
      '"a":"',
      "a: '",
      'a="',
      '\\\\"a\\\\":\\\\"',
      'x-api-key: ',
      '--a ',
      '\n pwd: a',
      'Cookie: ',
      '://a@',
      'Bearer ',
      '-----BEGIN ',
      'a'.repeat(50),
    ]) {
      const [short, long] = [20_000, 200_000].map((size) => {
        const text = part.repeat(size / part.length);
        const begin = process.cpuUsage();
        redact(text);
        // Not the time that passes: the machine may be busy with something else.
        return process.cpuUsage(begin).user;
      }) as [number, number];
      // Quadratic time would be a hundred times as much, and seconds.
      expect(long, part).toBeLessThan(Math.max(short * 60, 1e6));
    }
  });
});

describe('redactUrl', () => {
  it.each([
    ['mqtt://ann:S3C/R@ET@broker:1883/x?password=S3CRET#S3CRET', 'mqtt://broker:1883/x'],
    ['mongodb://db:1/app?tls=true&tlsCertificateKeyFilePassword=p@S3CRET/x&tlsFoo=1', 'mongodb://db:1/app'],
    ['mongodb://db:1/app?authMechanismProperties=AWS_SESSION_TOKEN:p@S3CRET', 'mongodb://db:1/app'],
    ['redis://:S3C?R@ET@cache:6379/0', 'redis://cache:6379/0'],
    ['redis:ann:S3CRET@cache', 'redis:cache'],
    ['ann:S3CRET@cache', 'ann:cache'],
    ['redis:S3CRET', 'redis:***'],
    ['mongodb://ann:S3CRET', 'mongodb://***'],
    ['mongodb://ann:S3CRET/app', 'mongodb://***'],
    ['mongodb://h1:1,h2:2/app', 'mongodb://h1:1,h2:2/app'],
    ['mqtt://[::1]:1883/x', 'mqtt://[::1]:1883/x'],
    ['host', 'host'],
    ['', ''],
  ])('%s', (given, clean) => expect(redactUrl(given)).toBe(clean));
});

describe('isAmbiguousUrl', () => {
  it.each([
    ['amqp://u:p@S3CRET/x@127.0.0.1:1//', true],
    ['mongodb+srv://user:p@S3CRET/x@nope.invalid/db', true],
    ['mongodb://user:p%40S3CRET%2Fx@h1:1,h2:2/db?replicaSet=r', false],
    ['mongodb://u:p@w@h/db', false],
    ['mongodb://h/db?authMechanismProperties=A:p@S3CRET', false],
    ['redis://:pw@cache/0', false],
    ['amqp://h//', false],
  ])('%s: %s', (url, is) => expect(isAmbiguousUrl(url)).toBe(is));
});

describe('isSecret', () => {
  it.each([
    'password',
    'clientOptions.password',
    'sasl',
    'apiKey',
    'access_token',
    'clientSecret',
    'passphrase',
    'url.pwd',
  ])('%s is', (name) => expect(isSecret(name)).toBe(true));
  it.each([
    'key',
    'dedupeKey',
    'onLostToken',
    'keyBy',
    'username',
    'sasl.username',
    'url',
    'topics[0]',
    'signal',
    'author',
  ])('%s is not', (name) => expect(isSecret(name)).toBe(false));
});

describe('an error', () => {
  const uri = 'mongodb://ann:S3CRET@db/app';
  const nested = new TypeError(`Invalid connection string "${uri}"`, { cause: new Error(`also ${uri}`) });

  it('shows no secret of its message, its details and its causes, however it is printed', () => {
    const error = new MinibatchError(ErrorCode.StoreUnavailable, `${uri} is away`, {
      cause: nested,
      details: { uri, stream: 's' },
    });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('S3CRET');
    expect(error.details).toEqual({ uri: 'mongodb://***@db/app', stream: 's' });
    expect(error.cause).toBeInstanceOf(TypeError);
    expect((error.cause as Error).message).toBe('Invalid connection string "mongodb://***@db/app"');
    // Of others: it is theirs.
    expect(nested.message).toContain('S3CRET');
  });

  it('keeps a cause that has nothing to hide', () => {
    const cause = new RangeError('plain', { cause: new AggregateError([new Error('one')]) });
    expect(redactCause(cause)).toBe(cause);
  });

  it('looks into aggregates and own properties', () => {
    const cause = Object.assign(new AggregateError([new Error(uri)], 'all'), { config: uri, password: 'S3CRET' });
    expect(inspect(redactCause(cause), { depth: 10 })).not.toContain('S3CRET');
  });

  it('survives causes that go round and getters that throw', () => {
    const round = new Error(uri);
    round.cause = round;
    expect(inspect(redactCause(round), { depth: 20 })).not.toContain('S3CRET');
    const odd = Object.defineProperty(new Error(uri), 'odd', {
      get: () => {
        throw new Error('get');
      },
      enumerable: true,
    });
    expect((redactCause(odd) as Error).message).not.toContain('S3CRET');
  });

  it('survives more causes than fit on the stack, and hides what it does not look through', () => {
    const wrapped = (wrap: (error: Error) => Error) => {
      let error = new Error(uri);
      for (let count = 0; count < 20_000; count += 1) error = wrap(error);
      return error;
    };
    for (const wrap of [
      (cause: Error) => new Error('again', { cause }),
      (error: Error) => new AggregateError([error], 'again'),
    ]) {
      let at: unknown = redactCause(wrapped(wrap));
      let depth = 0;
      for (; at instanceof Error; depth += 1) at = at instanceof AggregateError ? at.errors[0] : at.cause;
      expect(depth).toBeGreaterThan(100);
      expect(at).toBe('***');
    }
    const wide = redactCause(new AggregateError(Array.from({ length: 5_000 }, () => new Error(uri))));
    expect((wide as AggregateError).errors.filter((each) => each !== '***').length).toBeLessThan(5_000);
    expect(JSON.stringify((wide as AggregateError).errors.map(String))).not.toContain('S3CRET');
  });

  it('of anything thrown has a text and a stack without', () => {
    expect(messageOf(nested)).not.toContain('S3CRET');
    expect(stackOf(nested)).not.toContain('S3CRET');
    expect(stackOf(nested)).toContain('redact.spec');
    // At the cut, and beyond what is looked through.
    for (const size of [1_980, 499_990, 2_000_000]) {
      expect(messageOf(new Error(`${'x'.repeat(size)} ${uri} ${'y'.repeat(3_000)}`))).not.toContain('S3C');
    }
    expect(messageOf(new Error(`${`${uri} `.repeat(40_000)}`))).not.toContain('S3C');
  });

  it('about an option does not tell a secret that was given', () => {
    for (const error of [
      invalidOption('KafkaSource', 'sasl', { mechanism: 'plain', username: 'ann', password: 'S3CRET' }, 'x'),
      invalidOption('KafkaSource', 'sasl', 'S3CRET', 'x'),
      invalidOption('KafkaSource', 'sasl.password', 12_345, 'x'),
      invalidOption('CeleryEventSource', 'url', ['redis://:S3CRET@cache'], 'x'),
      invalidOption('CeleryEventSource', 'url', new URL('redis://:S3CRET@cache'), 'x'),
      invalidOption('MqttSource', 'clientOptions', { will: { password: 'S3CRET' } }, 'x'),
      invalidOption('MqttSource', 'clientOptions', { cert: 'c', key: 'S3CRET' }, 'x'),
      invalidOption('CeleryEventSource', 'tls', { key: Buffer.from('S3CRET') }, 'x'),
      invalidOption('KafkaSource', 'kafka', { ssl: { key: 'S3CRET' }, brokers: 'ann:S3CRET@kafka:9092' }, 'x'),
      invalidOption('KafkaSource', 'kafka', { brokers: ['ann:S3C@RET@kafka:9092'] }, 'x'),
    ]) {
      expect(inspect(error, { depth: 10 })).not.toMatch(/S3C|RET@|12345/);
    }
    expect(invalidOption('X', 'size', 0, 'y').details).toEqual({ where: 'X', option: 'size', given: 0, allowed: 'y' });
    expect(redactValue({ a: [{ b: 1n }], c: undefined })).toEqual({ a: [{ b: 1n }], c: undefined });
  });
});
