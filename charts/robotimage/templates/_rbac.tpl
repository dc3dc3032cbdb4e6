{{/* Who the operator is. */}}
{{- define "robotimage.subject" -}}
- kind: ServiceAccount
  name: {{ include "robotimage.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* What the operator may do where it serves RobotImages; docs/install.md says what each rule is for. Nothing on Secrets. */}}
{{- define "robotimage.rules" -}}
- apiGroups: [robotimage.dev]
  resources: [robotimages]
  verbs: [get, list, watch]
- apiGroups: [robotimage.dev]
  resources: [robotimages/status]
  verbs: [patch]
- apiGroups: [robotimage.dev]
  resources: [robotimages/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [robotimage-platform]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
