{{/* The controller's name: of its Deployment, Service, service account and ConfigMap. */}}
{{- define "hauberk.name" -}}
{{ .Values.fullnameOverride | default "hauberk-controller" }}
{{- end }}

{{/* What cluster-wide objects are called that belong to this release alone. */}}
{{- define "hauberk.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "hauberk.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "hauberk.selector" -}}
app.kubernetes.io/name: hauberk
app.kubernetes.io/component: controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hauberk.labels" -}}
{{ include "hauberk.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hauberk
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image as one reference. Takes [image, root]. */}}
{{- define "hauberk.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- $name := ternary (printf "%s/%s" $image.registry $image.repository) $image.repository (ne $image.registry "") -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $name $image.digest }}
{{- else -}}
{{ printf "%s:%s" $name ($image.tag | default $root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{/* A duration such as 90s, 1.5h or 500ms in seconds. */}}
{{- define "hauberk.seconds" -}}
{{- $amount := regexFind "^[0-9.]+" . | float64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- mulf $amount (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) $unit) -}}
{{- end }}

{{/* Namespaces whose pods never reach the webhook, as JSON. */}}
{{- define "hauberk.excludedNamespaces" -}}
{{- concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.config.injector.excludedNamespaces | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* Whether the Prometheus Operator's objects are made. Takes [true, false or "auto", root]; "true" or nothing. */}}
{{- define "hauberk.monitors" -}}
{{- $wanted := index . 0 | toString -}}
{{- $root := index . 1 -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") ($root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}true{{- end -}}
{{- end }}
