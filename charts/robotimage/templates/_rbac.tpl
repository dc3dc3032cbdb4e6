{{/* Who the operator is. */}}
{{- define "robotimage.subject" -}}
- kind: ServiceAccount
  name: {{ include "robotimage.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* What the operator may do where it serves RobotImages. Nothing on Secrets. */}}
{{- define "robotimage.rules" -}}
# To see what is asked for; get of one object after a conflict.
- apiGroups: [robotimage.dev]
  resources: [robotimages]
  verbs: [get, list, watch]
# To say what is: server-side apply of the status.
- apiGroups: [robotimage.dev]
  resources: [robotimages/status]
  verbs: [patch]
# To own Jobs where the admission plugin OwnerReferencesPermissionEnforcement is on (OpenShift).
- apiGroups: [robotimage.dev]
  resources: [robotimages/finalizers]
  verbs: [update]
# One Job an attempt; old ones are removed.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# Results come from container statuses. No logs, no exec, no create.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# The platform's settings for build pods (CA bundle, index files), never a secret; only this one by name.
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [robotimage-platform]
  verbs: [create, patch]
{{- if .Values.publishTo.enabled }}
# The ConfigMaps of image.publishTo.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
{{- end }}
# Why a Job has no pod: refusals by quota and admission are told in events alone.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# To tell what happened.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* A Role and its binding to the operator: a list of root, namespace, name and rules. */}}
{{- define "robotimage.role" -}}
{{- $root := index . 0 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ index . 2 }}
  namespace: {{ index . 1 }}
  labels:
    {{- include "robotimage.labels" $root | nindent 4 }}
rules:
  {{- index . 3 | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ index . 2 }}
  namespace: {{ index . 1 }}
  labels:
    {{- include "robotimage.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ index . 2 }}
subjects:
  {{- include "robotimage.subject" $root | nindent 2 }}
{{- end -}}

{{/* With leaderElection: the one Lease, by its name. */}}
{{- define "robotimage.leaseRules" -}}
# Which replica leads. Create, too, is of this name alone: the Lease is made by a PUT.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "robotimage.leaseName" . }}]
  verbs: [get, watch, create, update]
{{- end -}}

{{/* With sourcePolling.mode Operator, in each listed namespace. */}}
{{- define "robotimage.secretRules" -}}
# `get` of a Secret by its name, in this namespace alone: for git sources that the operator polls here.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end -}}
