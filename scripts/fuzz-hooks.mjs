// Loader hooks of `npm run fuzz`: TypeScript runs as it stands, and src/ is given counters that tell which blocks an
// input has reached. A counter is an octet of the module's own array, from `globalThis.__fuzzRegister`.
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const SRC = new URL('../src/', import.meta.url).href;

export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context);
  const text = await readFile(fileURLToPath(url), 'utf8');
  return { format: 'module', shortCircuit: true, source: translate(url, text) };
}

function translate(url, text) {
  const counted = url.startsWith(SRC);
  const points = { count: 0 };
  const { outputText } = ts.transpileModule(text, {
    fileName: fileURLToPath(url),
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
      inlineSourceMap: true,
    },
    transformers: counted ? { after: [(context) => (file) => instrument(context, file, points)] } : {},
  });
  if (points.count === 0) return outputText;
  // On the first line, so that the lines stay where they are.
  const name = url.slice(SRC.length);
  return `const __fuzz = globalThis.__fuzzRegister(${JSON.stringify(name)}, ${points.count});${outputText}`;
}

/** Counts at the entry of every function, branch, loop body, case and right-hand side of `&&`, `||`, `??`. */
function instrument(context, file, points) {
  const { factory: f } = context;
  const hit = () =>
    f.createPostfixIncrement(f.createElementAccessExpression(f.createIdentifier('__fuzz'), points.count++));
  const first = (block) => f.updateBlock(block, [f.createExpressionStatement(hit()), ...block.statements]);
  const counted = (statement) =>
    ts.isBlock(statement) ? first(statement) : f.createBlock([f.createExpressionStatement(hit()), statement]);
  const also = (expression) =>
    f.createParenthesizedExpression(f.createBinaryExpression(hit(), ts.SyntaxKind.CommaToken, expression));

  const visit = (given) => {
    const node = ts.visitEachChild(given, visit, context);
    if (ts.isIfStatement(node)) {
      const otherwise = node.elseStatement === undefined ? f.createBlock([]) : node.elseStatement;
      return f.updateIfStatement(node, node.expression, counted(node.thenStatement), counted(otherwise));
    }
    if (ts.isForStatement(node)) {
      return f.updateForStatement(
        node,
        node.initializer,
        node.condition,
        node.incrementor,
        counted(node.statement),
      );
    }
    if (ts.isForOfStatement(node)) {
      return f.updateForOfStatement(
        node,
        node.awaitModifier,
        node.initializer,
        node.expression,
        counted(node.statement),
      );
    }
    if (ts.isWhileStatement(node)) {
      return f.updateWhileStatement(node, node.expression, counted(node.statement));
    }
    if (ts.isCaseClause(node)) {
      return f.updateCaseClause(node, node.expression, [
        f.createExpressionStatement(hit()),
        ...node.statements,
      ]);
    }
    if (ts.isDefaultClause(node)) {
      return f.updateDefaultClause(node, [f.createExpressionStatement(hit()), ...node.statements]);
    }
    if (ts.isCatchClause(node)) return f.updateCatchClause(node, node.variableDeclaration, first(node.block));
    if (ts.isConditionalExpression(node)) {
      return f.updateConditionalExpression(
        node,
        node.condition,
        node.questionToken,
        also(node.whenTrue),
        node.colonToken,
        also(node.whenFalse),
      );
    }
    if (ts.isBinaryExpression(node) && LAZY.has(node.operatorToken.kind)) {
      return f.updateBinaryExpression(node, node.left, node.operatorToken, also(node.right));
    }
    if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) {
      const { modifiers, typeParameters, parameters, type, equalsGreaterThanToken } = node;
      return f.updateArrowFunction(
        node,
        modifiers,
        typeParameters,
        parameters,
        type,
        equalsGreaterThanToken,
        also(node.body),
      );
    }
    if (ts.isBlock(node) && isBody(given)) return first(node);
    return node;
  };
  return ts.visitEachChild(file, visit, context);
}

const LAZY = new Set([
  ts.SyntaxKind.AmpersandAmpersandToken,
  ts.SyntaxKind.BarBarToken,
  ts.SyntaxKind.QuestionQuestionToken,
]);

function isBody(block) {
  const parent = ts.getOriginalNode(block).parent;
  return parent !== undefined && ts.isFunctionLike(parent);
}
