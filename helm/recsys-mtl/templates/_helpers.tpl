{{- define "recsys-mtl.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name | trunc 28 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "fullnameOverride: %q is no name of a Service: it begins with a letter and has small letters, digits and -" $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* What selects the pods of a component: (list . "serving") */}}
{{- define "recsys-mtl.selector" -}}
app.kubernetes.io/part-of: recsys-mtl
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "recsys-mtl.labels" -}}
{{ include "recsys-mtl.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* The head of an object: (list . component suffix-of-its-name) */}}
{{- define "recsys-mtl.metadata" -}}
name: {{ include "recsys-mtl.fullname" (index . 0) }}-{{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "recsys-mtl.labels" (list (index . 0) (index . 1)) | nindent 2 }}
{{- end }}

{{/* (list . "training") */}}
{{- define "recsys-mtl.image" -}}
{{- $image := index (index . 0).Values.images (index . 1) -}}
{{- if $image.digest -}}
image: {{ printf "%s@%s" $image.repository $image.digest | quote }}
{{- else -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default (index . 0).Chart.AppVersion) | quote }}
{{- end }}
imagePullPolicy: {{ (index . 0).Values.images.pullPolicy }}
{{- end }}

{{/* What is the same for every pod: (list . component may-talk-to-the-API) */}}
{{- define "recsys-mtl.pod" -}}
serviceAccountName: {{ include "recsys-mtl.fullname" (index . 0) }}-{{ index . 1 }}
automountServiceAccountToken: {{ index . 2 }}
# A Service called like a prefix of our settings would set variables beside them.
enableServiceLinks: false
{{- with (index . 0).Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "recsys-mtl.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods are placed: the values of a Placement */}}
{{- define "recsys-mtl.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An Ingress: (list . component its-values port) */}}
{{- define "recsys-mtl.ingress" -}}
{{- $ingress := index . 2 -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "recsys-mtl.metadata" (list (index . 0) (index . 1) (index . 1)) | nindent 2 }}
  {{- with $ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with $ingress.tlsSecret }}
  tls:
    - hosts: [{{ $ingress.host | quote }}]
      secretName: {{ . }}
  {{- end }}
  rules:
    - host: {{ required (printf "%s.ingress.host: field required" (index . 1)) $ingress.host | quote }}
      http:
        paths:
          {{- range $ingress.paths }}
          - path: {{ . }}
            pathType: Prefix
            backend:
              service:
                name: {{ include "recsys-mtl.fullname" (index $ 0) }}-{{ index $ 1 }}
                port: {name: http}
          {{- end }}
{{- end }}
