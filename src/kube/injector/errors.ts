/** A pod that is not admitted. The message goes to whoever created it: what is wrong, where, and what to do. */
export class InjectionError extends Error {
  override readonly name = 'InjectionError';
}

/** The text of an annotation is not what it should be. Stays inside this folder: it becomes part of a refusal. */
export class AnnotationError extends Error {
  override readonly name = 'AnnotationError';
}
