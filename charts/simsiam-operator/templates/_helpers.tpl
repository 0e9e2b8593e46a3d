{{- define "simsiam.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
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
{{- end -}}

{{- define "simsiam.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "simsiam.name" .) -}}
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
