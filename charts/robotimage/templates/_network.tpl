{{/* DNS, wherever the cluster has it: a node-local cache has a link-local address. */}}
{{- define "robotimage.dnsEgress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Everywhere but in the denied ranges and the clouds' metadata services; a dict of ports, deny and allow. */}}
{{- define "robotimage.egress" -}}
{{- $four := list "169.254.0.0/16" "100.100.100.200/32" -}}
{{- $six := list "fe80::/10" "fd00:ec2::254/128" -}}
{{- range .deny -}}
{{- if contains ":" . }}{{- $six = append $six . }}{{- else }}{{- $four = append $four . }}{{- end -}}
{{- end -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except:
          {{- toYaml $four | nindent 10 }}
    - ipBlock:
        cidr: ::/0
        except:
          {{- toYaml $six | nindent 10 }}
{{- with .allow }}
# What addressPolicy allows, at any port.
- to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
{{- end }}
{{- end -}}
