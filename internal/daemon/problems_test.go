package daemon

import (
	"slices"
	"testing"

	"twill/internal/api"
	"twill/subnet"
)

// codes of problems, each of which has to say what is wrong and what to do.
func codes(t *testing.T, problems []api.Problem) (list []string) {
	t.Helper()
	for _, p := range problems {
		if p.Problem == "" || p.Remedy == "" {
			t.Errorf("%+v says too little", p)
		}
		list = append(list, p.Code)
	}
	return list
}

func TestProblems(t *testing.T) {
	trouble := "no such interface"
	for _, tt := range []struct {
		name             string
		view             subnet.View
		underlay, device *string
		want             []string
	}{
		{"healthy", subnet.View{Etcd: subnet.EtcdState{Serves: true}}, nil, nil, nil},
		{"etcd away", subnet.View{}, nil, nil, []string{api.ProblemEtcdAway}},
		{"etcd refuses", subnet.View{Etcd: subnet.EtcdState{Refuses: true}}, nil, nil, []string{api.ProblemEtcdRefuses}},
		{"all", subnet.View{ConfigProblem: "changed"}, &trouble, &trouble, []string{api.ProblemUnderlay, api.ProblemDevice, api.ProblemSubnetFile, api.ProblemConfig, api.ProblemEtcdAway}},
	} {
		var d daemon
		d.troubles.underlay.last.Store(tt.underlay)
		d.troubles.device.last.Store(tt.device)
		d.troubles.subnetFile.last.Store(tt.device)
		problems := d.problems(tt.view)
		if got := codes(t, problems); problems == nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
