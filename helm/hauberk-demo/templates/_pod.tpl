{{- define "demo.checks" -}}
{{- if has .Values.namespace.name (list "kube-system" "kube-public" "kube-node-lease") -}}
{{- fail (printf "namespace.name: no pod in %s gets a sidecar: choose another namespace." .Values.namespace.name) -}}
{{- end -}}
{{- if and .Values.namespace.create (eq .Values.namespace.name .Release.Namespace) -}}
{{- fail (printf "namespace.create: the release lives in %s, so the namespace must be there before it: label it with hauberk.mesh/inject=enabled and set namespace.create=false, or install into another namespace." .Release.Namespace) -}}
{{- end -}}
{{- end }}

{{/* Takes [name, root]. */}}
{{- define "demo.selector" -}}
app.kubernetes.io/name: {{ index . 0 }}
app.kubernetes.io/instance: {{ (index . 1).Release.Name }}
{{- end }}

{{- define "demo.labels" -}}
{{ include "demo.selector" . }}
app.kubernetes.io/part-of: hauberk-demo
app.kubernetes.io/managed-by: {{ (index . 1).Release.Service }}
{{- end }}

{{- define "demo.image" -}}
{{- with .Values.image -}}
{{ ternary (printf "%s/" .registry) "" (ne .registry "") }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What every pod and container of the demo has: it fits Pod Security `restricted`. */}}
{{- define "demo.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "demo.container" -}}
image: {{ include "demo.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  requests: { cpu: 20m, memory: 64Mi }
  limits: { memory: 128Mi }
{{- end }}
