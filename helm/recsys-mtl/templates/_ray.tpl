{{/* The Ray release in the training image, requirements/cpu.txt */}}
{{- define "recsys-mtl.rayVersion" -}}
2.60.0
{{- end }}

{{/* Where presets are in the training image */}}
{{- define "recsys-mtl.presets" -}}
{{- range .Values.training.presets }} '/app/configs/{{ . }}'{{ end }}
{{- end }}

{{/* The run's own fields, and what the chart knows of it; one file, which goes behind the presets */}}
{{- define "recsys-mtl.run" -}}
{{- $defaults := dict "tracking" (dict "buffer" "/tmp/unsent") }}
{{- $owned := dict "cluster" (dict "address" "auto") "tracking" (dict "uri" (include "recsys-mtl.trackingUri" .)) }}
{{- toYaml (mergeOverwrite $defaults (deepCopy .Values.training.run) $owned) }}
{{- end }}

{{/* A pod of Ray: (list . placement-and-resources container-name may-talk-to-the-API) */}}
{{- define "recsys-mtl.rayPod" -}}
{{- $ := index . 0 }}
{{- $training := $.Values.training }}
metadata:
  labels:
    {{- include "recsys-mtl.selector" (list $ "training") | nindent 4 }}
  {{- with $training.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "recsys-mtl.pod" (list $ "training" (index . 3)) | nindent 2 }}
  # What Ray has lost it asks for again; a container that comes back by itself would only be in its way.
  restartPolicy: Never
  {{- include "recsys-mtl.placement" (index . 1) | nindent 2 }}
  containers:
    - name: {{ index . 2 }}
      {{- include "recsys-mtl.image" (list $ "training") | nindent 6 }}
      securityContext:
        {{- include "recsys-mtl.containerSecurity" $ | nindent 8 }}
      env:
        {{- include "recsys-mtl.homeEnv" $ | nindent 8 }}
        {{- include "recsys-mtl.objectStoreEnv" $ | nindent 8 }}
        {{- include "recsys-mtl.mlflowEnv" $ | nindent 8 }}
        - name: RAY_USAGE_STATS_ENABLED
          value: "0"
        {{- with $training.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources:
        {{- toYaml (index . 1).resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: run, mountPath: /etc/recsys-mtl, readOnly: true}
        {{- with $training.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: run
      configMap: {name: {{ include "recsys-mtl.fullname" $ }}-training}
    {{- with $training.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The spec of a RayCluster */}}
{{- define "recsys-mtl.rayCluster" -}}
{{- $training := .Values.training -}}
rayVersion: {{ include "recsys-mtl.rayVersion" . | quote }}
{{- if $training.autoscaling.enabled }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ $training.autoscaling.idleTimeoutSeconds }}
  {{- include "recsys-mtl.image" (list . "training") | nindent 2 }}
  resources:
    requests: {cpu: 200m, memory: 512Mi}
    limits: {cpu: 500m, memory: 1Gi}
  securityContext:
    {{- include "recsys-mtl.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
{{- end }}
headGroupSpec:
  # No training workers beside the program that runs them.
  rayStartParams: {num-cpus: "0"}
  template:
    {{- include "recsys-mtl.rayPod" (list . $training.head "ray-head" $training.autoscaling.enabled) | nindent 4 }}
workerGroupSpecs:
  {{- range $group := $training.workers }}
  - groupName: {{ $group.name }}
    replicas: {{ $group.replicas }}
    minReplicas: {{ ternary $group.minReplicas $group.replicas $training.autoscaling.enabled }}
    maxReplicas: {{ ternary $group.maxReplicas $group.replicas $training.autoscaling.enabled }}
    rayStartParams: {}
    template:
      {{- include "recsys-mtl.rayPod" (list $ $group "ray-worker" false) | nindent 6 }}
  {{- end }}
{{- end }}

{{/* The spec of a RayJob: (list . command) */}}
{{- define "recsys-mtl.rayJob" -}}
{{- $ := index . 0 }}
{{- $training := $.Values.training -}}
entrypoint: {{ index . 1 | quote }}
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ $training.keepSeconds }}
activeDeadlineSeconds: {{ $training.deadlineSeconds }}
backoffLimit: {{ $training.retries }}
# Of the pod that hands the command to Ray and shows its log: it looks for its job before it submits one again.
submitterConfig: {backoffLimit: 2}
submitterPodTemplate:
  metadata:
    labels:
      {{- include "recsys-mtl.selector" (list $ "training") | nindent 6 }}
  spec:
    {{- include "recsys-mtl.pod" (list $ "training" false) | nindent 4 }}
    restartPolicy: Never
    containers:
      - name: ray-job-submitter
        {{- include "recsys-mtl.image" (list $ "training") | nindent 8 }}
        securityContext:
          {{- include "recsys-mtl.containerSecurity" $ | nindent 10 }}
        env:
          {{- include "recsys-mtl.homeEnv" $ | nindent 10 }}
        resources:
          requests: {cpu: 100m, memory: 256Mi}
          limits: {cpu: "1", memory: 1Gi}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
    volumes:
      - name: tmp
        emptyDir: {sizeLimit: 1Gi}
rayClusterSpec:
  {{- include "recsys-mtl.rayCluster" $ | nindent 2 }}
{{- end }}

{{/* Arguments of a command, as a shell reads them */}}
{{- define "recsys-mtl.args" -}}
{{- range . }} '{{ . }}'{{ end }}
{{- end }}
