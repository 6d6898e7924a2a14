package dockeropts

import "testing"

func TestParseEnv(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  string
		want Env
	}{
		{"as written", "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n",
			Env{"10.1.74.1/24", "1472", "false"}},
		{"empty", "", Env{}},
		{"no last newline", "FLANNEL_SUBNET=10.1.74.1/24", Env{Subnet: "10.1.74.1/24"}},
		{"double quotes", `FLANNEL_MTU="1472"`, Env{MTU: "1472"}},
		{"single quotes", `FLANNEL_MTU='1472'`, Env{MTU: "1472"}},
		{"one quote stays", `FLANNEL_MTU="`, Env{MTU: `"`}},
		{"blanks", "  FLANNEL_MTU=1472  \n", Env{MTU: "1472"}},
		{"export", "export FLANNEL_MTU=1472", Env{MTU: "1472"}},
		{"last one counts", "FLANNEL_MTU=1\nFLANNEL_MTU=2\n", Env{MTU: "2"}},
		{"last one empties", "FLANNEL_MTU=1\nFLANNEL_MTU=\n", Env{}},
		{"comment", "#FLANNEL_MTU=1472\n", Env{}},
		{"other keys", "XFLANNEL_MTU=1\nFLANNEL_IPV6_SUBNET=fd00::1/64\necho hi\n", Env{}},
		{"blank before =", "FLANNEL_MTU =1472\n", Env{}},
		{"carriage return", "FLANNEL_MTU=1472\r\n", Env{MTU: "1472"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ParseEnv([]byte(tt.raw)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
