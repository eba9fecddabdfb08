/** What steps with windows need streams for: what they read, results whose functions do not work at once, and late messages. */
export type OwnStreams = Readonly<Record<'items' | 'results' | 'late', string>>;

/** @param step name of the pipeline, with that of the step behind a slash if it has one */
export function ownStreamsOf(step: string): OwnStreams {
  return { items: `${step}/items`, results: `${step}/results`, late: `${step}/late` };
}

/** Whether windows of the pipeline, as it is or was, need or needed the stream: nobody else gives groups and streams such names. */
export function isOfPipeline(stream: string, pipeline: string): boolean {
  if (!stream.startsWith(`${pipeline}/`)) return false;
  const [kind = '', ...step] = stream
    .slice(pipeline.length + 1)
    .split('/')
    .reverse();
  return step.length <= 1 && Object.hasOwn(ownStreamsOf(''), kind);
}
