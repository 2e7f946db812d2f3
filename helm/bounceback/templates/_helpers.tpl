{{- define "bounceback.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bounceback.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bounceback.labels" -}}
{{ include "bounceback.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "bounceback.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What the operator and the hook may do to the machine that they run on: nothing. */}}
{{- define "bounceback.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "bounceback.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "bounceback.armingName" -}}
{{ include "bounceback.fullname" . }}-arming
{{- end -}}

{{- define "bounceback.admissionName" -}}
{{ include "bounceback.fullname" . }}-admission-faults
{{- end -}}

{{- define "bounceback.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "bounceback.drainHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* The operator's rights on its own resources, and to tell what happens. */}}
{{- define "bounceback.ownRules" -}}
- apiGroups: [bounceback.dev]
  resources: [faultexperiments]
  verbs: [get, list, watch, patch, delete] # patch: finalizer and annotation; delete: ttlSecondsAfterFinished
- apiGroups: [bounceback.dev]
  resources: [recoverychecks]
  verbs: [get, list, watch]
- apiGroups: [bounceback.dev]
  resources: [faultexperiments/status, recoverychecks/status]
  verbs: [update]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
