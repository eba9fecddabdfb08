import { readFile } from 'node:fs/promises';
import { ErrorCode, FailureReason } from 'nestjs-minibatch';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

const page = await readFile(repository('docs/reference/errors.md'), 'utf8');
const sections = new Map(
  page
    .split(/^### /m)
    .slice(1)
    .map((section) => {
      const [code = '', ...text] = section.split('\n');
      return [code, text.join('\n')] as const;
    }),
);

describe('the reference of errors', () => {
  it('has every code, once, and no other', () => {
    expect([...page.matchAll(/^### (.*)$/gm)].map(([, code]) => code).toSorted()).toEqual(
      Object.values(ErrorCode).toSorted(),
    );
  });

  it.each(Object.values(ErrorCode))('says what causes %s, and what to do', (code) => {
    expect(sections.get(code)).toMatch(/^- \*\*Cause:\*\* \S[^]*^- \*\*Remedy:\*\* \S/m);
  });

  it('has every reason of adapters, once, and no other', () => {
    const table = page.slice(page.indexOf('## Reasons'));
    const reasons = [...table.matchAll(/^\| `([A-Z_]+)`\s+\| \S.* \| \S.* \|$/gm)].map(([, reason]) => reason);
    expect(reasons.toSorted()).toEqual(Object.values(FailureReason).toSorted());
  });
});
