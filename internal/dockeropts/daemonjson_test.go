package dockeropts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckDaemonJSON(t *testing.T) {
	for _, tt := range []struct {
		name string
		json string
		o    Options
		want string // part of the error; "": none
	}{
		{"other settings", `{"log-driver": "journald", "default-address-pools": [{"base": "172.30.0.0/16", "size": 24}]}`, Options{}, ""},
		{"empty file", " \n", Options{}, ""},
		{"bip", `{"bip": "172.17.0.1/16"}`, Options{}, "sets bip,"},
		{"bip and mtu", `{"mtu": 1400, "bip": "172.17.0.1/16"}`, Options{}, "sets bip and mtu,"},
		{"ip-masq", `{"ip-masq": false}`, Options{}, "sets ip-masq,"},
		{"ip-masq with -m", `{"ip-masq": false}`, Options{NoIPMasq: true}, ""},
		{"broken", `{"bip": `, Options{}, "want a JSON object"},
		{"a list", `[]`, Options{}, "want a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "daemon.json")
			if err := os.WriteFile(path, []byte(tt.json), 0o644); err != nil {
				t.Fatal(err)
			}
			err := CheckDaemonJSON(path, tt.o)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)):
				t.Errorf("got %v, want an error about %s with %q", err, path, tt.want)
			}
		})
	}
	if err := CheckDaemonJSON(filepath.Join(t.TempDir(), "absent"), Options{}); err != nil {
		t.Errorf("no daemon.json: %v", err)
	}
}
