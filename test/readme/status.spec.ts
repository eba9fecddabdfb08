import { readFile } from 'node:fs/promises';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

const page = await readFile(repository('docs/reference/status.md'), 'utf8');

/** The names in the first cells of the tables of a section. */
function rowsOf(section: string, column?: string): string[] {
  const text = page.split(`## ${section}\n`)[1]?.split('\n## ')[0] ?? '';
  const tables = text
    .trim()
    .split('\n\n')
    .filter((part) => part.startsWith(`| ${column ?? ''}`));
  return tables.flatMap((table) =>
    table
      .split('\n')
      .slice(2)
      .flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)),
  );
}

async function declarationOf(file: string, name: string): Promise<ts.Node> {
  const path = repository('libs/minibatch/src', file);
  const source = ts.createSourceFile(path, await readFile(path, 'utf8'), ts.ScriptTarget.ES2023, true);
  const found = source.statements.find(
    (node) => (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) && node.name.text === name,
  );
  if (!found) throw new Error(`${file} declares no ${name}`);
  return found;
}

/** The string literals of a type. */
function literalsIn(node: ts.Node): string[] {
  if (ts.isStringLiteral(node)) return [node.text];
  return childrenOf(node).flatMap(literalsIn);
}

function childrenOf(node: ts.Node): ts.Node[] {
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => void children.push(child));
  return children;
}

/** The fields of a type literal or an interface, by the names that lead to it. */
function fieldsOf(node: ts.Node, path: readonly string[]): string[] {
  const [first, ...rest] = path;
  const properties = childrenOf(node).flatMap((child) =>
    ts.isPropertySignature(child)
      ? [child]
      : ts.isTypeLiteralNode(child)
        ? child.members.filter(ts.isPropertySignature)
        : [],
  );
  if (first === undefined) return properties.map(({ name }) => name.getText());
  const property = properties.find(({ name }) => name.getText() === first);
  if (!property) throw new Error(`there is no ${first}`);
  return fieldsOf(property, rest);
}

describe('the reference of the status', () => {
  it('has every reason of health', async () => {
    const declared = literalsIn(await declarationOf('status/status.types.ts', 'HealthReason'));
    expect(rowsOf('Health')).toEqual(expect.arrayContaining(declared));
    expect(rowsOf('Health').length).toBe(declared.length);
  });

  it('has every field of a snapshot', async () => {
    const report = await declarationOf('status/status.types.ts', 'StatusSnapshot');
    const fields = [
      ...fieldsOf(report, []).filter((name) => name !== 'store'),
      ...fieldsOf(report, ['store']).map((name) => `store.${name}`),
    ];
    expect(rowsOf('Snapshot').toSorted()).toEqual(fields.toSorted());
  });

  it('has every field of a stream', async () => {
    const report = await declarationOf('status/status.types.ts', 'StreamReport');
    const stored = fieldsOf(report, ['stored']).map((name) => `stored.${name}`);
    expect(rowsOf('Stream').toSorted()).toEqual([...stored, 'consumers', 'sources'].toSorted());
  });

  it('has every field of what a process does for a consumer', async () => {
    const status = await declarationOf('engine/engine.interface.ts', 'ConsumerStatus');
    const fields = fieldsOf(status, []).filter((name) => name !== 'key');
    expect(rowsOf('Consumer', 'Field').toSorted()).toEqual(fields.toSorted());
  });

  it('has every activity', async () => {
    const index = await readFile(repository('libs/minibatch/src/index.ts'), 'utf8');
    const [, file = ''] = /ConsumerActivity\b[^}]*} from '(.*)\.js'/.exec(index) ?? [];
    const declared = literalsIn(await declarationOf(`${file}.ts`, 'ConsumerActivity'));
    expect(rowsOf('Consumer', '`activity`').toSorted()).toEqual(declared.toSorted());
  });
});
