{{- define "convserve.name" -}}
{{- printf "%s-convserve" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "convserve.selector" -}}
app.kubernetes.io/name: convserve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "convserve.metadata" -}}
name: {{ include "convserve.name" . }}
labels:
  {{- include "convserve.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "convserve.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}
