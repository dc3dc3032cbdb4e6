{{- define "robotimage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "robotimage.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "robotimage.labels" -}}
{{ include "robotimage.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "robotimage.leaseName" -}}
{{- default (include "robotimage.fullname" .) .Values.leaderElection.leaseName -}}
{{- end -}}

{{- define "robotimage.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "robotimage.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A map of quantities with every value as text: `cpu: 2` is a number in YAML. */}}
{{- define "robotimage.quantities" -}}
{{- $texts := dict -}}
{{- range $name, $value := . }}{{- $_ := set $texts $name (toString $value) }}{{- end -}}
{{- toYaml $texts -}}
{{- end -}}

{{/* The operator's configuration file: the fields of operator/example-config.yaml. What is empty here is left out, so that the operator's own default holds. */}}
{{- define "robotimage.config" -}}
{{- $v := .Values -}}
{{- $config := dict
  "builderImage" (required "builder.image is required: the image of the build pods, best by digest" $v.builder.image)
  "imagePullSecrets" $v.builder.imagePullSecrets
  "compression" $v.compression
  "environmentCache" $v.environmentCache
  "plainHttp" $v.plainHttp
  "addressPolicy" $v.addressPolicy
  "requireSecretHosts" $v.requireSecretHosts
  "sourcePolling" $v.sourcePolling
  "registryPolling" $v.registryPolling
  "lookupsPerHost" (int64 $v.operator.lookupsPerHost)
  "minInterval" $v.minInterval
  "resources" (dict "requests" (include "robotimage.quantities" $v.builds.resources.requests | fromYaml) "limits" (include "robotimage.quantities" $v.builds.resources.limits | fromYaml) "maxMemory" (toString $v.builds.resources.maxMemory))
  "volumes" (include "robotimage.quantities" $v.builds.volumes | fromYaml)
  "buildTimeout" $v.builds.timeout
  "buildSlots" (dict "total" (int64 $v.builds.slots.total) "perNamespace" (int64 $v.builds.slots.perNamespace))
  "queueLimit" $v.builds.queueLimit
  "dnsPolicy" $v.builds.dnsPolicy
  "limits" (dict "maxSourceBytes" (int64 $v.builds.limits.maxSourceBytes) "maxSourceEntries" (int64 $v.builds.limits.maxSourceEntries))
  "watchNamespaces" $v.watchNamespaces
  "concurrency" (int64 $v.operator.concurrency)
  "leaderElection" (dict "enabled" $v.leaderElection.enabled "leaseName" (include "robotimage.leaseName" .) "namespace" .Release.Namespace "leaseDuration" $v.leaderElection.leaseDuration "renewDeadline" $v.leaderElection.renewDeadline "retryPeriod" $v.leaderElection.retryPeriod)
-}}
{{- with $v.builder.pullPolicy }}{{- $_ := set $config "builderImagePullPolicy" . }}{{- end -}}
{{- $base := dict "image" (required "base.image is required: the image below every robot's, for example a Debian slim" $v.base.image) -}}
{{- with $v.base.secretName }}{{- $_ := set $base "secretName" . }}{{- end -}}
{{- $_ := set $config "base" $base -}}
{{- if and $v.rcc.image $v.rcc.http.url }}{{- fail "rcc.image and rcc.http are both set: keep one" }}{{- end -}}
{{- $rcc := dict -}}
{{- if $v.rcc.http.url -}}
{{- $_ := set $rcc "http" (dict "url" $v.rcc.http.url "sha256" (required "rcc.http.sha256 is required with rcc.http.url" $v.rcc.http.sha256)) -}}
{{- else -}}
{{- $_ := set $rcc "image" (required "rcc.image or rcc.http is required: the rcc inside the images" $v.rcc.image) -}}
{{- end -}}
{{- with $v.rcc.secretName }}{{- $_ := set $rcc "secretName" . }}{{- end -}}
{{- $_ := set $config "rcc" $rcc -}}
{{- with $v.registryMirrors }}{{- $_ := set $config "registryMirrors" . }}{{- end -}}
{{- with $v.caBundle }}{{- $_ := set $config "caBundle" . }}{{- end -}}
{{- $index := dict -}}
{{- with $v.index.settingsYaml }}{{- $_ := set $index "settingsYaml" . }}{{- end -}}
{{- with $v.index.piprc }}{{- $_ := set $index "piprc" . }}{{- end -}}
{{- with $v.index.micromambarc }}{{- $_ := set $index "micromambarc" . }}{{- end -}}
{{- $_ := set $config "index" $index -}}
{{- toYaml $config -}}
{{- end -}}
