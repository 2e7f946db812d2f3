{{/* What experiments of .target need in the whole cluster to delete the namespaces .names, and to make them again. */}}
{{- define "bounceback.namespaceRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: {{ .names | toJson }}
  verbs: [get, list, watch, delete]
# RBAC cannot confine making to a name: the ValidatingAdmissionPolicy below does.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [create]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [create]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: ["{{ .operator }}-contents:{{ .target }}:{{ .account }}"]
  verbs: [bind]
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations, mutatingwebhookconfigurations]
  verbs: [list]
- apiGroups: [apiregistration.k8s.io]
  resources: [apiservices]
  verbs: [list]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list]
{{- end }}

{{/* The right to do all in those namespaces, and what confines the rest to them. */}}
{{- define "bounceback.namespaceAccess" -}}
{{- $role := printf "%s-contents:%s:%s" .operator .target .account }}
{{- $policy := printf "%s.%s.%s" .operator .target .account }}
{{- $user := printf "system:serviceaccount:%s:%s" .target .account }}
{{- $names := printf "['%s']" (join "', '" .names) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $role }}
  labels:
    {{- include "bounceback.labels" .root | nindent 4 }}
rules:
  - apiGroups: ["*"]
    resources: ["*"]
    verbs: ["*"]
{{- range .names }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $role }}
  namespace: {{ . }}
  labels:
    {{- include "bounceback.labels" $.root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $role }}
subjects:
  - kind: ServiceAccount
    name: {{ $.account }}
    namespace: {{ $.target }}
{{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $policy }}
  labels:
    {{- include "bounceback.labels" .root | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [""]
        apiVersions: ["*"]
        operations: [CREATE]
        resources: [namespaces]
      - apiGroups: [rbac.authorization.k8s.io]
        apiVersions: ["*"]
        operations: [CREATE]
        resources: [rolebindings]
  matchConditions:
    - name: account
      expression: request.userInfo.username == '{{ $user }}'
  validations:
    - expression: "!(request.resource.resource == 'namespaces') || object.metadata.name in {{ $names }}"
      message: {{ $user }} may make no namespace but {{ join ", " .names }}
    - expression: "request.resource.resource == 'namespaces' || request.namespace in {{ $names }} || (request.namespace == '{{ .target }}' && object.roleRef.name != '{{ $role }}')"
      message: {{ $user }} may make RoleBindings in {{ join ", " .names }} only, and to {{ $role }} nowhere else
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $policy }}
  labels:
    {{- include "bounceback.labels" .root | nindent 4 }}
spec:
  policyName: {{ $policy }}
  validationActions: [Deny]
{{- end }}
