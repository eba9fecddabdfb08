/** Where a consumer stands after a pass: it has something to do, or only new messages bring it on, and it may hold some already. */
export type Standing = 'busy' | 'waiting' | 'holding';
