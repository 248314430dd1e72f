{{/* Generated from scripts/chart/values.ts by: node scripts/generate-docs.mjs */}}
{{- define "hauberk.range" -}}
{{- $seconds := include "hauberk.seconds" (index . 1) | float64 -}}
{{- if or (lt $seconds (index . 2 | float64)) (gt $seconds (index . 3 | float64)) -}}
{{- fail (printf "%s: %s is out of range: write %s." (index . 0) (index . 1) (index . 4)) -}}
{{- end -}}
{{- end }}

{{- define "hauberk.ranges" -}}
{{- include "hauberk.range" (list "config.issuer.svidTtl" .Values.config.issuer.svidTtl 600 604800 "10m to 7d") -}}
{{- include "hauberk.range" (list "config.issuer.caTtl" .Values.config.issuer.caTtl 86400 3153600000 "1d to 36500d") -}}
{{- include "hauberk.range" (list "config.leader.duration" .Values.config.leader.duration 2 600 "2s to 10m") -}}
{{- include "hauberk.range" (list "config.leader.renew" .Values.config.leader.renew 1 600 "1s to 10m") -}}
{{- include "hauberk.range" (list "config.leader.retry" .Values.config.leader.retry 0.1 60 "100ms to 1m") -}}
{{- include "hauberk.range" (list "config.drain.deadline" .Values.config.drain.deadline 0 3600 "0ms to 1h") -}}
{{- end }}
