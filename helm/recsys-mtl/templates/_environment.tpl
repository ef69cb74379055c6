{{/* The only place that can be written to is /tmp, and what a component mounts beside it. */}}
{{- define "recsys-mtl.homeEnv" -}}
- name: HOME
  value: /tmp
{{- end }}

{{- define "recsys-mtl.objectStoreEnv" -}}
{{- with .Values.objectStore }}
{{- with .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if .secretName }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.objectStore.secretName }}, key: {{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of MLflow's clients */}}
{{- define "recsys-mtl.mlflowEnv" -}}
{{- with .Values.mlflow.credentialsSecret }}
{{- $secret := . }}
{{- range list "MLFLOW_TRACKING_USERNAME" "MLFLOW_TRACKING_PASSWORD" "MLFLOW_TRACKING_TOKEN" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ . }}, optional: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "recsys-mtl.trackingUri" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "recsys-mtl.fullname" . }}-mlflow:5000
{{- else -}}
{{- required "mlflow.uri: field required where mlflow.enabled is false" .Values.mlflow.uri -}}
{{- end -}}
{{- end }}

{{/* A value as the text of a variable; numbers as they were written */}}
{{- define "recsys-mtl.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if kindIs "slice" . }}{{ join "," . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* Of the ranking API */}}
{{- define "recsys-mtl.servingEnv" -}}
{{- include "recsys-mtl.homeEnv" . }}
{{- include "recsys-mtl.objectStoreEnv" . }}
{{- include "recsys-mtl.mlflowEnv" . }}
- name: RECSYS_MTL_HOST
  value: 0.0.0.0
- name: RECSYS_MTL_PORT
  value: "8000"
- name: RECSYS_MTL_TRACKING_URI
  value: {{ include "recsys-mtl.trackingUri" . | quote }}
- name: RECSYS_MTL_CACHE_DIR
  value: /cache
{{- if .Values.serving.apiKeys.secretName }}
- name: RECSYS_MTL_API_KEYS_FILE
  value: /etc/recsys-mtl/api-keys
{{- end }}
{{- range $name, $value := .Values.serving.settings }}
{{- if not (kindIs "invalid" $value) }}
- name: RECSYS_MTL_{{ upper $name }}
  value: {{ include "recsys-mtl.text" $value | quote }}
{{- end }}
{{- end }}
{{- with .Values.serving.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Names by which MLflow's clients call the server. Its own list, which this one replaces, lacks those of Services. */}}
{{- define "recsys-mtl.mlflowHosts" -}}
{{- $service := printf "%s-mlflow" (include "recsys-mtl.fullname" .) -}}
{{- $full := printf "%s.%s" $service .Release.Namespace -}}
{{- $hosts := list "localhost" "127.0.0.1" $service $full (printf "%s.svc" $full) (printf "%s.svc.*" $full) -}}
{{- if .Values.mlflow.ingress.enabled -}}
{{- $hosts = append $hosts .Values.mlflow.ingress.host -}}
{{- end -}}
{{- $hosts = concat $hosts .Values.mlflow.allowedHosts -}}
{{- $withPorts := list -}}
{{- range $hosts }}{{ $withPorts = append $withPorts (printf "%s:*" .) }}{{ end -}}
{{- concat $hosts $withPorts | join "," -}}
{{- end }}
