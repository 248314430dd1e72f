{{/* controller.yaml: the values under `config`, and what only the chart knows. */}}
{{- define "hauberk.config" -}}
{{- $own := dict
  "namespace" .Release.Namespace
  "serviceName" (include "hauberk.name" .)
  "control" (dict "listen" (printf ":%v" .Values.ports.control))
  "webhook" (dict
    "listen" (printf ":%v" .Values.ports.webhook)
    "configuration" .Values.webhook.configuration
    "tls" .Values.webhook.tls
    "secret" .Values.webhook.secret)
  "injector" (dict
    "image" (include "hauberk.image" (list .Values.image .))
    "captureImage" (include "hauberk.image" (list .Values.captureImage .)))
  "probes" (dict "http" (printf ":%v" .Values.ports.probes)) -}}
{{- if ne .Values.webhook.tls "self" -}}
{{- $_ := set $own.webhook "cert" "/etc/hauberk-webhook/tls.crt" -}}
{{- $_ := set $own.webhook "key" "/etc/hauberk-webhook/tls.key" -}}
{{- end -}}
{{- with .Values.webhook.clientCa -}}
{{- $_ := set $own.webhook "clientCa" . -}}
{{- end -}}
{{- with .Values.webhook.caBundle -}}
{{- $_ := set $own.webhook "caBundle" . -}}
{{- end -}}
{{- $config := mergeOverwrite (deepCopy .Values.config) $own -}}
{{- range $sort := list "requests" "limits" -}}
{{- $quantities := get $config.injector.resources $sort -}}
{{- range $what, $quantity := $quantities -}}
{{- $_ := set $quantities $what (toString $quantity) -}}
{{- end -}}
{{- end -}}
{{ toYaml $config }}
{{- end }}
