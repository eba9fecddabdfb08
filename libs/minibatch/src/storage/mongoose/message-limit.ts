/**
 * MongoDB's limit for a document is 16 MiB. Some room is left for what is added to a message later, such as marks of groups and times. Not
 * every server rejects a larger document with an error: some close the connection.
 */
export const MAX_DOCUMENT_MESSAGE_BYTES = 16 * 1024 * 1024 - 64 * 1024;
