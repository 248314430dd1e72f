{{/* What values.schema.json cannot tell: combinations that would not work. Each `fail` says what, where and what to do. */}}
{{- define "hauberk.checks" -}}
{{- $v := .Values -}}
{{- $excluded := include "hauberk.excludedNamespaces" . | fromJsonArray -}}

{{- if has .Release.Namespace (list "default" "kube-system" "kube-public" "kube-node-lease") -}}
{{- fail (printf "Hauberk's controller cannot live in the namespace %s, whose pods the injector never touches: install it into one of its own, with `--namespace hauberk-system --create-namespace`." .Release.Namespace) -}}
{{- end -}}

{{- $ports := dict -}}
{{- range $name, $port := $v.ports -}}
{{- $taken := get $ports (toString $port) -}}
{{- if $taken -}}
{{- fail (printf "ports.%s and ports.%s are both %v: each listener of the controller needs a port of its own." $taken $name $port) -}}
{{- end -}}
{{- $_ := set $ports (toString $port) $name -}}
{{- end -}}

{{- range $key := list "image" "captureImage" -}}
{{- $image := get $v $key -}}
{{- if and $image.tag $image.digest -}}
{{- fail (printf "%s has a tag (%s) and a digest: set one, the digest if the image must never change." $key $image.tag) -}}
{{- end -}}
{{- end -}}

{{- $pdb := $v.podDisruptionBudget -}}
{{- if $pdb.enabled -}}
{{- if and (hasKey $pdb "minAvailable") (hasKey $pdb "maxUnavailable") -}}
{{- fail "podDisruptionBudget has minAvailable and maxUnavailable: Kubernetes takes one of them, set the other to null." -}}
{{- end -}}
{{- if hasKey $pdb "minAvailable" -}}
{{- if ge (int $pdb.minAvailable) (int $v.replicas) -}}
{{- fail (printf "podDisruptionBudget.minAvailable: %v with replicas: %v lets no node be drained: raise replicas, or use maxUnavailable: 1." $pdb.minAvailable $v.replicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $webhook := $v.webhook -}}
{{- if and (eq $webhook.tls "files") (or (eq $webhook.tlsSecret "") (eq $webhook.caBundle "")) -}}
{{- fail "webhook.tls: files needs webhook.tlsSecret, the Secret with tls.crt and tls.key, and webhook.caBundle, the PEM text of the CA that signed it (`--set-file webhook.caBundle=ca.pem`)." -}}
{{- end -}}
{{- if and (eq $webhook.caBundle "") (not (eq $webhook.tls "files")) -}}
{{- else if not (eq $webhook.tls "files") -}}
{{- fail (printf "webhook.caBundle is set, but webhook.tls is %s, with which somebody else writes it: remove it, or set webhook.tls: files." $webhook.tls) -}}
{{- end -}}
{{- range $key := list "caBundle" "clientCa" -}}
{{- $pem := get $webhook $key -}}
{{- if and $pem (not (contains "-----BEGIN CERTIFICATE-----" $pem)) -}}
{{- fail (printf "webhook.%s is no PEM text: it begins with -----BEGIN CERTIFICATE----- (`--set-file webhook.%s=ca.pem`; not base64)." $key $key) -}}
{{- end -}}
{{- if contains "PRIVATE KEY" $pem -}}
{{- fail (printf "webhook.%s has a private key in it, which everybody could read: give the CA's certificate only, and replace that key." $key) -}}
{{- end -}}
{{- end -}}
{{- $issuer := $webhook.certManager.issuerRef.name -}}
{{- if eq $webhook.tls "external" -}}
{{- if eq $webhook.tlsSecret "" -}}
{{- fail "webhook.tls: external needs webhook.tlsSecret: the Secret into which cert-manager writes tls.crt and tls.key." -}}
{{- end -}}
{{- if not (or $issuer $webhook.certManager.certificate) -}}
{{- fail "webhook.tls: external needs webhook.certManager.issuerRef.name, so that the chart asks cert-manager for a certificate, or webhook.certManager.certificate, the NAMESPACE/NAME of one that there is: else nobody would write caBundle." -}}
{{- end -}}
{{- if and $issuer $webhook.certManager.certificate -}}
{{- fail "webhook.certManager has issuerRef and certificate: set issuerRef for a certificate of the chart's, or certificate for one that there is." -}}
{{- end -}}
{{- else if or $issuer $webhook.certManager.certificate -}}
{{- fail (printf "webhook.certManager is set, but webhook.tls is %s: set webhook.tls: external." $webhook.tls) -}}
{{- end -}}
{{- if and (eq $webhook.tls "self") $webhook.tlsSecret -}}
{{- fail "webhook.tlsSecret is set, but webhook.tls is self, with which the controller makes a certificate of its own: set webhook.tls: files, or external with cert-manager." -}}
{{- end -}}
{{- if eq $v.config.issuer.caSecret $webhook.secret -}}
{{- fail (printf "config.issuer.caSecret and webhook.secret are both %s: the CA and the webhook's certificate need a Secret each." $webhook.secret) -}}
{{- end -}}
{{- if eq $webhook.tlsSecret $v.config.issuer.caSecret -}}
{{- fail (printf "config.issuer.caSecret and webhook.tlsSecret are both %s: the CA's Secret is the controller's own." $webhook.tlsSecret) -}}
{{- end -}}

{{- range $namespace := $v.appNetworkPolicies.namespaces -}}
{{- if has $namespace $excluded -}}
{{- fail (printf "appNetworkPolicies.namespaces has %s, whose pods get no sidecar: the policy would select nothing. Take it from the list." $namespace) -}}
{{- end -}}
{{- end -}}

{{- $leader := $v.config.leader -}}
{{- if not (lt (include "hauberk.seconds" $leader.renew | float64) (include "hauberk.seconds" $leader.duration | float64)) -}}
{{- fail (printf "config.leader.renew (%s) must be shorter than config.leader.duration (%s): a leader must step down before another one takes over." $leader.renew $leader.duration) -}}
{{- end -}}
{{- if not (lt (mulf (include "hauberk.seconds" $leader.retry | float64) 2.5) (include "hauberk.seconds" $leader.renew | float64)) -}}
{{- fail (printf "config.leader.retry (%s) must be shorter than two fifths of config.leader.renew (%s): a replica waits for up to two and a half times as long." $leader.retry $leader.renew) -}}
{{- end -}}
{{- range $key, $monitoring := dict "config.monitoring" $v.config.monitoring "config.injector.proxy.monitoring" $v.config.injector.proxy.monitoring -}}
{{- range $adapter := (default dict $monitoring).adapters -}}
{{- if kindIs "map" $adapter -}}
{{- $path := (default dict $adapter.file).path | default "/dev/" -}}
{{- if not (hasPrefix "/dev/" $path) -}}
{{- fail (printf "%s.adapters has the file %s, which cannot be written: the root file system is read-only, and nothing is mounted there. Use stdout, which the node's log collector takes." $key $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key := list "commonLabels" "podLabels" -}}
{{- range $label, $_ := get $v $key -}}
{{- if or (has $label (list "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by" "helm.sh/chart")) (hasPrefix "hauberk.mesh/" $label) -}}
{{- fail (printf "%s has %s, which is the chart's own: take another key." $key $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (lt (include "hauberk.seconds" $v.config.drain.deadline | float64) (float64 $v.terminationGracePeriodSeconds)) -}}
{{- fail (printf "config.drain.deadline (%s) must be shorter than terminationGracePeriodSeconds (%v): else Kubernetes kills the controller before it has ended." $v.config.drain.deadline $v.terminationGracePeriodSeconds) -}}
{{- end -}}

{{- if and $v.priorityClass.create (eq $v.priorityClass.name "") -}}
{{- fail "priorityClass.create needs priorityClass.name." -}}
{{- end -}}
{{- if and $v.priorityClass.create (hasPrefix "system-" $v.priorityClass.name) -}}
{{- fail (printf "priorityClass.name: %s is Kubernetes' own: set priorityClass.create: false to use it." $v.priorityClass.name) -}}
{{- end -}}

{{- if and .Release.IsUpgrade (not $v.acceptCutOff) -}}
{{- $now := include "hauberk.config" . | fromYaml -}}
{{- $instance := .Release.Name -}}
{{- range (lookup "v1" "ConfigMap" .Release.Namespace "").items -}}
{{- $labels := default dict .metadata.labels -}}
{{- $text := get (default dict .data) "controller.yaml" -}}
{{- if and $text (eq (get $labels "app.kubernetes.io/name") "hauberk") (eq (get $labels "app.kubernetes.io/instance") $instance) -}}
{{- include "hauberk.cutOff" (list (fromYaml $text) $now) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What pods that run have of their controller cannot be changed in them. Takes the configurations before and after. */}}
{{- define "hauberk.cutOff" -}}
{{- $before := index . 0 -}}
{{- $now := index . 1 -}}
{{- $pairs := dict
  "config.trustDomain" (list $before.trustDomain $now.trustDomain)
  "fullnameOverride" (list $before.serviceName $now.serviceName)
  "ports.control" (list $before.control.listen $now.control.listen)
  "config.issuer.audience" (list $before.issuer.audience $now.issuer.audience) -}}
{{- range $key, $pair := $pairs -}}
{{- if ne (toString (first $pair)) (toString (last $pair)) -}}
{{- fail (printf "%s would change from %v to %v, which cuts off every pod that has a sidecar: it finds its controller no more, loses discovery at once and its identity within config.issuer.svidTtl, until it is restarted. Leave it, or set acceptCutOff: true and restart all of them afterwards." $key (first $pair) (last $pair)) -}}
{{- end -}}
{{- end -}}
{{- end }}
