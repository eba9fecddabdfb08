import ts from 'typescript';

/** Most lines of each. A callback is a function that is passed to a call where it is written. */
export const LIMITS = { file: 450, class: 350, function: 60, callback: 60 } as const;

export interface TooLong {
  /** As `class Name`. */
  readonly what: string;
  readonly lines: number;
}

/**
 * What in a file has more lines than it may have. Doc comments do not count; what is nested in a
 * function does.
 *
 * @param limits which to check; a spec nests its cases in callbacks, so that these do not count
 */
export function tooLong(
  text: string,
  limits: readonly (keyof typeof LIMITS)[] = ['file', 'class', 'function', 'callback'],
): readonly TooLong[] {
  const source = ts.createSourceFile('source.ts', text, ts.ScriptTarget.ESNext, true);
  const found: TooLong[] = [];
  const check = (kind: keyof typeof LIMITS, what: string, lines: number) => {
    if (limits.includes(kind) && lines > LIMITS[kind]) found.push({ what, lines });
  };
  check('file', 'file', text.replace(/\n$/, '').split('\n').length);
  const visit = (node: ts.Node): void => {
    if (ts.isClassLike(node)) check('class', `class ${nameOf(node)}`, linesOf(source, node));
    else if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const what = ts.isConstructorDeclaration(node) ? 'constructor' : `function ${nameOf(node)}`;
      check(ts.isCallExpression(node.parent) ? 'callback' : 'function', what, linesOf(source, node));
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function linesOf(source: ts.SourceFile, node: ts.Node): number {
  const line = (position: number) => source.getLineAndCharacterOfPosition(position).line;
  return line(node.getEnd()) - line(node.getStart(source)) + 1;
}

/** Its own name, or that of what it is assigned to. */
function nameOf(node: ts.ClassLikeDeclaration | ts.SignatureDeclaration): string {
  const { parent } = node;
  const named =
    node.name ??
    (ts.isVariableDeclaration(parent) || ts.isPropertyDeclaration(parent) || ts.isPropertyAssignment(parent)
      ? parent.name
      : undefined);
  return named?.getText() ?? '(anonymous)';
}
