{{- define "homespun.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "homespun.labels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Which pods; takes (dict "root" $ "component" name). */}}
{{- define "homespun.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of pods: all of the above, each key once. */}}
{{- define "homespun.podLabels" -}}
{{ include "homespun.labels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The image with the engine, or (dict "gateway" true) the one without. */}}
{{- define "homespun.image" -}}
{{- $values := .root.Values }}
{{- $registry := default $values.image.registry $values.global.imageRegistry }}
{{- $repository := ternary $values.image.gatewayRepository $values.image.repository (default false .gateway) }}
{{- $digest := ternary $values.image.gatewayDigest $values.image.digest (default false .gateway) }}
{{- if $digest }}{{ printf "%s/%s@%s" $registry $repository $digest }}
{{- else }}{{ printf "%s/%s:%s" $registry $repository (default .root.Chart.AppVersion $values.image.tag) }}{{ end }}
{{- end }}

{{- define "homespun.vllmImage" -}}
{{- if .Values.global.imageRegistry }}{{ printf "%s/%s" .Values.global.imageRegistry (regexReplaceAll "^[^/]*[.:][^/]*/" .Values.vllm.image "") }}
{{- else }}{{ .Values.vllm.image }}{{ end }}
{{- end }}

{{- define "homespun.serviceAccount" -}}
{{- default (ternary (include "homespun.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "homespun.secret" -}}
{{- if .Values.existingSecret }}{{ .Values.existingSecret }}
{{- else if .Values.dev.generateSecrets }}{{ include "homespun.fullname" . }}
{{- else }}{{ fail "existingSecret: name a secret with the key api-token (kubectl create secret generic homespun --from-literal=api-token=$(openssl rand -hex 24)), or for a try set dev.generateSecrets=true" }}{{ end }}
{{- end }}

{{- define "homespun.claim" -}}
{{- default (include "homespun.fullname" .) .Values.persistence.existingClaim }}
{{- end }}

{{/* A value of homespun.toml. Whole numbers come as floats from Helm, and 1e+06 is no TOML integer. */}}
{{- define "homespun.toml" -}}
{{- if kindIs "string" . }}{{ toJson . }}
{{- else if kindIs "bool" . }}{{ . }}
{{- else if kindIs "slice" . }}[{{ range $n, $item := . }}{{ if $n }}, {{ end }}{{ include "homespun.toml" $item }}{{ end }}]
{{- else if eq (float64 .) (floor .) }}{{ int64 . }}
{{- else }}{{ . }}{{ end }}
{{- end }}

{{/* Security of pods and containers: the restricted Pod Security Standard. */}}
{{- define "homespun.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "homespun.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Environment of (dict "root" $ "role" name). Secrets come by reference, to each role those that it needs: workers have
the workers' token alone. Those that may be absent are left out where they are. */}}
{{- define "homespun.env" -}}
{{- $cluster := eq .root.Values.mode "cluster" }}
{{- $needed := list "api-token" }}
{{- if $cluster }}{{ $needed = append $needed "database-url" }}{{ end }}
{{- $keys := list "worker-token" }}
{{- if eq .role "migrate" }}{{ $keys = list "database-url" }}{{ end }}
{{- if eq .role "server" }}{{ $keys = list "api-token" "database-url" "oidc-client-secret" "scim-token" "vllm-token" "webhook-secret" "worker-token" }}{{ end }}
{{- include "homespun.plainEnv" .root }}
{{- $secret := include "homespun.secret" .root }}
{{- range $key := $keys }}
- name: HOMESPUN_{{ $key | upper | replace "-" "_" }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ $key }}, optional: {{ not (has $key $needed) }}}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "homespun.plainEnv" -}}
- {name: HOME, value: /tmp}
- {name: XDG_CACHE_HOME, value: /tmp/cache}
- {name: HF_HOME, value: /tmp/huggingface}
- {name: TORCHINDUCTOR_CACHE_DIR, value: /tmp/inductor}
- {name: TRITON_CACHE_DIR, value: /tmp/triton}
- {name: HOMESPUN_DATA_DIR, value: /data}
{{- if .Values.customCA }}
- {name: SSL_CERT_FILE, value: /etc/homespun/ca/ca.crt}
- {name: GIT_SSL_CAINFO, value: /etc/homespun/ca/ca.crt}
{{- end }}
{{- end }}

{{- define "homespun.mounts" -}}
- {name: data, mountPath: /data}
{{- if .Values.persistence.adaptersClaim }}
- {name: adapters, mountPath: /data/adapters}
{{- end }}
- {name: tmp, mountPath: /tmp}
- {name: config, mountPath: /etc/homespun/homespun.toml, subPath: homespun.toml, readOnly: true}
{{- if .Values.gitCredentials }}
- {name: git, mountPath: /etc/homespun/git, readOnly: true}
{{- end }}
{{- if .Values.customCA }}
- {name: ca, mountPath: /etc/homespun/ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "homespun.volumes" -}}
- name: data
{{- if .Values.persistence.enabled }}
  persistentVolumeClaim: {claimName: {{ include "homespun.claim" . }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- with .Values.persistence.adaptersClaim }}
- name: adapters
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 10Gi}
- name: config
  configMap: {name: {{ include "homespun.fullname" . }}}
{{- with .Values.gitCredentials }}
- name: git
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.customCA }}
- name: ca
  configMap: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "homespun.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - {name: {{ . }}}
{{- end }}
{{- end }}
{{- end }}

{{/* nodeSelector, tolerations, affinity, runtimeClassName, priorityClassName of (dict with them). */}}
{{- define "homespun.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $ $key }}
{{ $key }}:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "runtimeClassName" "priorityClassName" }}
{{- with get $ $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Pods of a component on different machines where there are several; takes (dict "root" $ "component" name). */}}
{{- define "homespun.spread" -}}
topologySpreadConstraints:
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "homespun.selector" $ | nindent 8 }}
{{- end }}
{{- end }}

{{/* Resources with GPUs; takes (dict "resources" map "gpu" number). */}}
{{- define "homespun.resources" -}}
{{- $resources := deepCopy .resources }}
{{- if .gpu }}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" (int64 .gpu)) (default dict $resources.limits)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* Restarts pods when what they read at start changes. */}}
{{- define "homespun.podAnnotations" -}}
checksum/config: {{ include (print $.Template.BasePath "/config.yaml") . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* For checkov: what doesn't listen has nothing to be asked. */}}
{{- define "homespun.unprobed" -}}
checkov.io/skip1: "CKV_K8S_8=It listens on nothing; when it falls silent its lease ends and another takes the job."
checkov.io/skip2: "CKV_K8S_9=No Service routes to it."
{{- end }}

{{/* How a server is watched: liveness is the event loop alone, readiness also the model or vLLM. */}}
{{- define "homespun.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
lifecycle:
  preStop:
    exec: {command: [sleep, "15"]}  # until no Service routes to this pod any more
{{- end }}
