{{/* Alerts as lists; prometheusrule.yaml adds what all have in common. Each has its place in docs/kubernetes.md. */}}

{{- define "recsys-mtl.servingAlerts" -}}
{{- $alerts := .Values.monitoring.alerts }}
{{- $pods := printf "namespace=%q,service=%q" .Release.Namespace (print (include "recsys-mtl.fullname" .) "-serving") }}
{{- $ranking := print $pods ",route=~\"/v1/(rank|score)\"" }}
- alert: RecsysMtlErrors
  expr: |-
    sum(rate(recsys_requests_total{ {{- $ranking }},status=~"5.."}[5m]))
      / sum(rate(recsys_requests_total{ {{- $ranking -}} }[5m])) > {{ $alerts.errorRatio }}
  for: 5m
  annotations:
    summary: {{`"{{ $value | humanizePercentage }} of the ranking requests end with a fault of the service"`}}
- alert: RecsysMtlSlow
  expr: |-
    histogram_quantile(0.99, sum by (le) (rate(recsys_request_seconds_bucket{ {{- $ranking -}} }[5m])))
      > {{ $alerts.p99Seconds }}
  for: 10m
  annotations:
    summary: {{`"One in a hundred ranking requests takes more than {{ $value | humanizeDuration }}"`}}
- alert: RecsysMtlOverloaded
  expr: |-
    sum(rate(recsys_requests_total{ {{- $ranking }},status="429"}[5m]))
      / sum(rate(recsys_requests_total{ {{- $ranking -}} }[5m])) > {{ $alerts.errorRatio }}
  for: 5m
  annotations:
    summary: {{`"{{ $value | humanizePercentage }} of the ranking requests are refused: too many wait"`}}
- alert: RecsysMtlNoModel
  expr: absent(recsys_model_info{ {{- $pods }},role="champion"} > 0)
  for: 5m
  annotations:
    summary: No pod of the ranking API has a champion
- alert: RecsysMtlStaleModel
  expr: max by (role) (recsys_model_stale_seconds{ {{- $pods -}} }) > {{ mul $alerts.staleMinutes 60 }}
  annotations:
    summary: {{`"The registry has been away for {{ $value | humanizeDuration }}: there may be a newer {{ $labels.role }}"`}}
- alert: RecsysMtlModelRefused
  expr: sum by (role) (increase(recsys_model_swaps_total{ {{- $pods }},result="refused"}[1h])) > 0
  annotations:
    summary: {{`"A new {{ $labels.role }} failed its checks; the one before it goes on"`}}
- alert: RecsysMtlFeatureDrift
  expr: max by (feature) (recsys_feature_drift_alarm{ {{- $pods -}} }) > 0
  for: {{ $alerts.driftMinutes }}m
  annotations:
    summary: {{`"Values of {{ $labels.feature }} are not like those that the model was tested on"`}}
- alert: RecsysMtlWorkersDie
  expr: sum(increase(recsys_worker_restarts_total{ {{- $pods -}} }[15m])) > 2
  annotations:
    summary: Worker processes of the ranking API die by themselves
{{- end }}

{{/* By kube-state-metrics. A Job ends as well as its run; KubeRay has a Job of its own for each, NAME-ray. */}}
{{- define "recsys-mtl.dailyAlerts" -}}
{{- $name := printf "%s-daily" (include "recsys-mtl.fullname" .) }}
{{- $cronjob := printf "namespace=%q,cronjob=%q" .Release.Namespace $name }}
{{- $jobs := printf "namespace=%q,job_name=~\"%s-.+\",job_name!~\".+-ray\"" .Release.Namespace $name }}
- alert: RecsysMtlDailyRunFailed
  # The newest failure is newer than the newest success.
  expr: |-
    max(kube_job_status_start_time{ {{- $jobs -}} }
        and on (namespace, job_name) kube_job_failed{ {{- $jobs }},condition="true"} > 0)
      > (max(kube_cronjob_status_last_successful_time{ {{- $cronjob -}} }) or vector(0))
  annotations:
    summary: The daily run has failed; the champion is what it was
- alert: RecsysMtlDailyRunMissing
  expr: |-
    time() - max(kube_cronjob_status_last_successful_time{ {{- $cronjob -}} } or kube_cronjob_created{ {{- $cronjob -}} })
      > {{ mul .Values.monitoring.alerts.dailyHours 3600 }}
  annotations:
    summary: {{`"No daily run has succeeded for {{ $value | humanizeDuration }}"`}}
{{- end }}
