/** The driver that Mongoose brings; loaded only where it is needed. */
export async function driver() {
  const { default: mongoose } = await import('mongoose');
  return mongoose.mongo;
}

/** What a server that somebody else started can do. Rejects if it does not answer. */
export async function probe(uri) {
  const { MongoClient } = await driver();
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 5000 });
  try {
    // By its old name, which servers that only speak the protocol know too.
    const hello = await client.db('admin').command({ isMaster: 1 });
    const collection = client.db('minibatch_probe').collection('probe');
    return {
      transactions: hello.setName !== undefined || hello.msg === 'isdbgrid',
      changeStreams: await works(async () => {
        const stream = collection.watch();
        try {
          await stream.tryNext();
        } finally {
          await stream.close();
        }
      }),
      // A server that plans queries has indexes that count.
      indexes: await works(() => collection.find({ a: 1 }).explain()),
    };
  } finally {
    await client.close();
  }
}

function works(attempt) {
  return attempt().then(
    () => true,
    () => false,
  );
}
