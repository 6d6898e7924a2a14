package fromflannel

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"twill/internal/envfile"
)

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  string
		args string
		want Settings
	}{
		{"nothing", "", "", Settings{}},
		{"variables", "FLANNELD_IFACE=eth1\nFLANNELD_IP_MASQ=true\nPATH=/bin\n", "", Settings{"iface": {"eth1"}, "ip-masq": {"true"}}},
		{"forms of flags", "", "-iface eth1 --public-ip=192.0.2.1 -ip-masq --v=2", Settings{"iface": {"eth1"}, "public-ip": {"192.0.2.1"}, "ip-masq": {"true"}, "v": {"2"}}},
		{"a switch's value", "", "-ip-masq=false", Settings{"ip-masq": {"false"}}},
		{"repeated", "FLANNELD_IFACE=eth0", "-iface=eth1 -iface=eth2 -public-ip=1.1.1.1 -public-ip=2.2.2.2", Settings{"iface": {"eth1", "eth2"}, "public-ip": {"2.2.2.2"}}},
		{"the command line wins", "FLANNELD_ETCD_PREFIX=/a", "-etcd-prefix /b", Settings{"etcd-prefix": {"/b"}}},
		{"arguments end it", "", "-ip-masq rest -iface=eth1", Settings{"ip-masq": {"true"}}},
		{"Red Hat's", `FLANNEL_ETCD_ENDPOINTS="http://192.0.2.1:2379"` + "\n" + `FLANNEL_ETCD_PREFIX="/atomic.io/network"` + "\n" + `FLANNEL_OPTIONS="-iface=eth1 --ip-masq"`, "",
			Settings{"etcd-endpoints": {"http://192.0.2.1:2379"}, "etcd-prefix": {"/atomic.io/network"}, "iface": {"eth1"}, "ip-masq": {"true"}}},
		{"Red Hat's old names", "FLANNEL_ETCD=http://192.0.2.1:4001\nFLANNEL_ETCD_KEY=/coreos.com/network", "",
			Settings{"etcd-endpoints": {"http://192.0.2.1:4001"}, "etcd-prefix": {"/coreos.com/network"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env, _ := envfile.Parse([]byte(tt.env))
			got, err := Read(env, strings.Fields(tt.args))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	for args, want := range map[string]string{"-nonsense": "no flag -nonsense", "-iface": "-iface: want a value"} {
		if _, err := Read(nil, strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", args, err, want)
		}
	}
}

func TestPlan(t *testing.T) {
	plan := NewPlan(Settings{
		"etcd-endpoints": {"http://192.0.2.1:2379"}, "etcd-keyfile": {"/etc/pki/key.pem"}, "etcd-password": {"marker-secret"},
		"iface": {"eth1", "eth2"}, "iface-regex": {"eth[0-9] x"}, "ip-masq": {"true"},
		"subnet-file": {"/run/other.env"}, "kube-subnet-mgr": {"true"}, "ip-blackhole-route": {"false"},
	})
	var out strings.Builder
	if err := plan.Write(&out, "a test", []Host{{Address: "192.0.2.7", Subnet: "10.5.7.0-24"}, {Address: "192.0.2.8", Subnet: "10.5.8.0-24", Node: "h8", Twill: true}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nTWILL_ETCD_ENDPOINTS=http://192.0.2.1:2379\n",
		"\n#TWILL_ETCD_PASSWORD= ",
		"\nTWILL_IFACE_REGEX=\"eth[0-9] x\"\n",
		"\nTWILL_IP_MASQ=true\n",
		"twill run --iface=eth1 --iface=eth2\n",
		"/etc/pki/key.pem: must be readable for the user twill",
		"/run/other.env: twill writes",
		"CANNOT BE MOVED:\n#   kube-subnet-mgr: ",
		"192.0.2.7        10.5.7.0-24         to be moved\n",
		"moved: runs twill as h8\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q", want)
		}
	}
	for _, unwanted := range []string{"marker-secret", "blackhole"} {
		if strings.Contains(out.String(), unwanted) {
			t.Errorf("says %q", unwanted)
		}
	}
	// The whole is a settings file.
	vars, skipped := envfile.Parse([]byte(out.String()))
	if len(vars) != 4 || skipped != nil {
		t.Errorf("read as settings: %v, skipped %q", vars, skipped)
	}
}

// The packages' settings file masquerades; flanneld does only if it is told to.
func TestPlanWithoutMasquerade(t *testing.T) {
	for _, s := range []Settings{{}, {"ip-masq": {"false"}}} {
		if plan := NewPlan(s); !slices.Equal(plan.Settings, []string{"TWILL_IP_MASQ=false"}) {
			t.Errorf("%v: got %q", s, plan.Settings)
		}
	}
}

// Every flag with a fate that has to be explained is explained.
func TestFlagsAreExplained(t *testing.T) {
	for name, f := range flags {
		if (f.fate == moved || f.fate == missing) && f.note == "" {
			t.Errorf("%s has no note", name)
		}
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	if _, err := Find(root); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty host: got %v, want %v", err, ErrNotFound)
	}
	write(t, root, "etc/sysconfig/flanneld", "FLANNELD_IFACE=eth1\n")
	s, err := Find(root)
	if err != nil || !strings.HasSuffix(s.Name, "/etc/sysconfig/flanneld") || len(s.Env) != 1 {
		t.Errorf("a file: got %+v, %v", s, err)
	}
	write(t, root, "proc/1/comm", "systemd\n")
	write(t, root, "proc/77/comm", "flanneld\n")
	write(t, root, "proc/77/cmdline", "/usr/bin/flanneld\x00--iface=eth2\x00")
	write(t, root, "proc/77/environ", "PATH=/bin\x00FLANNELD_ETCD_PREFIX=/x y\x00FLANNEL_OPTIONS=-iface=eth3\x00")
	s, err = Find(root)
	want := Source{Name: "the flanneld that runs as process 77", Env: []envfile.Variable{{Name: "FLANNELD_ETCD_PREFIX", Value: "/x y"}}, Args: []string{"--iface=eth2"}}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("a process: got %+v, %v; want %+v", s, err, want)
	}
}

func write(t *testing.T, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
