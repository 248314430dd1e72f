// Whether a pod is injected at all. The pod's own word wins over its namespace's; what is neither `enabled` nor `disabled`
// is refused, because either guess may be the wrong one.
import { quote } from '../../config/pointer.ts';
import { ANNOTATIONS, labelProblems, readAnnotations } from './annotations.ts';
import { AnnotationError, InjectionError } from './errors.ts';
import { INJECT, PREFIX, STATUS } from './names.ts';
import { type Pod, podName } from './pod.ts';
import type { InjectorSettings, NamespaceView } from './settings.ts';

/** Namespaces of Kubernetes itself, which no setting opens. */
const NEVER: readonly string[] = ['kube-system', 'kube-public', 'kube-node-lease'];

/** Of pods that kubelet read from a file: the API server only shows them. */
const MIRROR = 'kubernetes.io/config.mirror';

/** What people write who know it from elsewhere. */
const MEANT: Readonly<Record<string, string>> = {
  true: 'enabled',
  yes: 'enabled',
  on: 'enabled',
  false: 'disabled',
  no: 'disabled',
  off: 'disabled',
};

function choiceOf(text: string, where: string): 'enabled' | 'disabled' {
  try {
    return ANNOTATIONS.inject.parse(text.trim());
  } catch (error) {
    if (!(error instanceof AnnotationError)) throw error;
    const said = text.trim().toLowerCase();
    const meant = Object.hasOwn(MEANT, said) ? `${quote(text)}: write ${MEANT[said]}` : error.message;
    throw new InjectionError(`${where} ${INJECT}: ${meant}`);
  }
}

/**
 * What a pod says for which nobody has asked: its author believes that it has a sidecar. Throws InjectionError where a key
 * is wrong, which may be the misspelt request itself.
 */
function idleWarnings(pod: Pod): string[] {
  const { annotations = {}, labels = {} } = pod.metadata;
  if (annotations[STATUS] !== undefined) return [];
  const { values, problems } = readAnnotations(annotations);
  problems.push(...labelProblems(labels));
  if (problems.length > 0) throw new InjectionError(`pod ${podName(pod)}: ${problems.join('; ')}`);
  const [first] = Object.keys(values);
  return first === undefined
    ? []
    : [
        `hauberk: pod ${podName(pod)} has ${PREFIX}${first}, which has no effect, because nobody has asked for a sidecar: set ${INJECT}: enabled`,
      ];
}

/** Why the pod is left alone, or who asked for its sidecar. Throws InjectionError. */
export function optIn(
  pod: Pod,
  namespace: NamespaceView,
  settings: InjectorSettings,
):
  | { readonly skipped: string; readonly warnings?: readonly string[] }
  | { readonly askedBy: 'pod' | 'namespace' } {
  const { name, labels } = namespace;
  if (NEVER.includes(name)) return { skipped: `namespace ${name} belongs to Kubernetes` };
  if (name === settings.namespace) return { skipped: `namespace ${name} is that of the control plane` };
  if (settings.excludedNamespaces.includes(name)) return { skipped: `namespace ${name} is excluded` };
  const { annotations, labels: podLabels } = pod.metadata;
  if (annotations?.[MIRROR] !== undefined) return { skipped: 'it is a mirror of a static pod' };
  const said = (
    [
      ['annotation', annotations?.[INJECT]],
      ['label', podLabels?.[INJECT]],
    ] as const
  )
    .filter(([, text]) => text !== undefined)
    .map(([sort, text]) => choiceOf(text as string, `the ${sort}`));
  if (said.length === 2 && said[0] !== said[1]) {
    throw new InjectionError(
      `pod ${podName(pod)} is ${said[0]} by its annotation ${INJECT} and ${said[1]} by its label: remove one`,
    );
  }
  if (said[0] === 'disabled') return { skipped: `the pod says ${INJECT}: disabled` };
  if (said[0] === 'enabled') return { askedBy: 'pod' };
  const ofNamespace = labels[INJECT];
  if (ofNamespace === undefined)
    return {
      skipped: `neither the pod nor its namespace has ${INJECT}: enabled`,
      warnings: idleWarnings(pod),
    };
  if (choiceOf(ofNamespace, `namespace ${name} has the label`) === 'disabled') {
    return { skipped: `namespace ${name} says ${INJECT}: disabled` };
  }
  return { askedBy: 'namespace' };
}
