package routes

import (
	"strings"
	"testing"
)

func TestForwardSpan(t *testing.T) {
	tests := map[string]struct {
		others string // targets of the rules, by spaces
		want   span
	}{
		"empty":                   {"", span{0, 0, 0}},
		"no Docker":               {"KUBE-FORWARD ACCEPT", span{0, 2, 0}},
		"Docker":                  {"DOCKER-USER DOCKER-FORWARD", span{1, 1, 1}},
		"old Docker":              {"DOCKER-USER DOCKER-ISOLATION-STAGE-1 ACCEPT DOCKER ACCEPT", span{1, 1, 1}},
		"older Docker":            {"DOCKER-ISOLATION ACCEPT DOCKER", span{0, 0, 0}},
		"others between":          {"DOCKER-USER KUBE-FORWARD DOCKER-FORWARD", span{1, 2, 1}},
		"others in front":         {"KUBE-FORWARD DOCKER-USER DOCKER-FORWARD ufw", span{2, 2, 2}},
		"DOCKER-USER behind":      {"DOCKER-FORWARD DOCKER-USER ufw", span{2, 3, 2}},
		"DOCKER-USER left behind": {"DOCKER-USER ufw", span{1, 2, 1}},
	}
	for name, tt := range tests {
		var rules []string
		for target := range strings.FieldsSeq(tt.others) {
			rules = append(rules, "-i eth0 -j "+target)
		}
		if got := forwardSpan(rules); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestTarget(t *testing.T) {
	for r, want := range map[string]string{
		"-j ACCEPT":                     "ACCEPT",
		"-o docker0 -j DOCKER":          "DOCKER",
		"-s 10.5.0.0/16 -g CHAIN":       "CHAIN",
		"-j LOG --log-prefix twill":     "LOG",
		"-s 10.5.0.0/16":                "",
		"-j":                            "",
		"":                              "",
		"-m comment --comment x -j RET": "RET",
	} {
		if got := target(r); got != want {
			t.Errorf("target(%q) = %q, want %q", r, got, want)
		}
	}
}
