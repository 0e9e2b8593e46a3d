{{- define "simsiam.name" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-simsiam-operator" .Release.Name) (contains "simsiam" .Release.Name) -}}
{{- end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "simsiam.selector" -}}
app.kubernetes.io/name: simsiam-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "simsiam.labels" -}}
{{ include "simsiam.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "simsiam.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "simsiam.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* An image by digest or tag; the arguments are the image's values and the version. */}}
{{- define "simsiam.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{/* Labels as KEY=VALUE,… */}}
{{- define "simsiam.pairs" -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{/* Prometheus, as a peer of a NetworkPolicy; empty if none is set. */}}
{{- define "simsiam.prometheus" -}}
{{- if or .namespace .podLabels -}}
{{- $peer := dict "namespaceSelector" dict -}}
{{- with .namespace }}{{ $peer = dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .)) }}{{ end -}}
{{- with .podLabels }}{{ $_ := set $peer "podSelector" (dict "matchLabels" .) }}{{ end -}}
{{- toYaml $peer -}}
{{- end -}}
{{- end -}}

{{/* The name of an object made of a file; the arguments are the root, a word and the path. */}}
{{- define "simsiam.ofFile" -}}
{{- $file := base (index . 2) -}}
{{- printf "%s-%s-%s" (include "simsiam.name" (index . 0)) (index . 1) (trimSuffix (ext $file) $file) | lower | replace "_" "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}
