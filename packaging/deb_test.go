//go:build packages

package packaging

import (
	"os"
	"strings"
	"testing"
)

var shipped = []string{
	"/usr/bin/twill", "/usr/lib/systemd/system/twill.service", "/usr/lib/systemd/system-generators/twill-docker-generator",
	"/usr/lib/sysusers.d/twill.conf", "/usr/lib/tmpfiles.d/twill.conf", "/usr/lib/sysctl.d/60-twill.conf", "/usr/lib/modules-load.d/twill.conf",
	"/usr/lib/systemd/network/10-twill.network",
	"/usr/share/man/man1/twill.1.gz", "/usr/share/man/man1/twill-run.1.gz", "/usr/share/man/man8/twill.service.8.gz",
	"/usr/share/man/man5/twill-config.5.gz", "/usr/share/man/man5/twill-subnet.env.5.gz",
	"/usr/share/bash-completion/completions/twill", "/usr/share/fish/vendor_completions.d/twill.fish",
}

// enabled are the links of `systemctl enable twill`.
var enabled = []string{"/etc/systemd/system/multi-user.target.wants/twill.service", "/etc/systemd/system/docker.service.wants/twill.service"}

// made is what a daemon would have made, here by hand: the test is about the package's scripts.
const made = `set -e
mkdir -p /run/twill /var/lib/twill
echo id >/var/lib/twill/node-id
echo FLANNEL_SUBNET=10.5.72.1/24 >/run/twill/subnet.env
ip tuntap add twill0 mode tun && ip link set twill0 up && ip route add 10.5.0.0/16 dev twill0
iptables -N TWILL-FWD-twill0 && iptables -A FORWARD -j TWILL-FWD-twill0`

func TestDeb(t *testing.T) {
	r := newRoot(t)
	r.sh("dpkg --force-depends -i " + r.put(debPath(t, oldVersion, "amd64")))
	r.wantAll(true, shipped...)
	r.wantAll(true, enabled...)
	r.wantAll(true, "/etc/default/twill", "/usr/share/doc/twill/copyright", "/usr/share/doc/twill/docs/README.md", "/usr/share/zsh/vendor-completions/_twill")
	if got := r.sh("twill version"); !strings.HasPrefix(got, "twill "+oldVersion+" ") {
		t.Errorf("twill version says %q, want %s", got, oldVersion)
	}
	r.sh("getent passwd twill")
	if got := r.sh("stat -c '%a %U' /etc/default/twill"); got != "640 root\n" {
		t.Errorf("/etc/default/twill is %q, want 640 root", got)
	}
	r.sh("dpkg -V twill")

	t.Log("an upgrade keeps the settings, a disabled service, device, rules and state")
	r.sh("echo TWILL_ETCD_ENDPOINTS=http://192.0.2.1:2379 >/etc/default/twill && systemctl disable twill.service")
	r.sh(made)
	r.sh("dpkg --force-depends -i " + r.put(debPath(t, newVersion, "amd64")))
	if got := must(os.ReadFile(r.path("/etc/default/twill")))(t); string(got) != "TWILL_ETCD_ENDPOINTS=http://192.0.2.1:2379\n" {
		t.Errorf("the settings are %q after an upgrade", got)
	}
	if got := r.sh("twill version"); !strings.HasPrefix(got, "twill "+newVersion+" ") {
		t.Errorf("twill version says %q, want %s", got, newVersion)
	}
	r.wantAll(false, enabled...)
	r.sh("ip link show twill0 && iptables -S TWILL-FWD-twill0 && test -e /run/twill/subnet.env")

	t.Log("the removal takes device, route and rules away, and keeps settings and state")
	r.sh("dpkg -r twill")
	r.wantAll(false, shipped...)
	r.wantAll(true, "/etc/default/twill", "/var/lib/twill/node-id")
	if out, err := r.try("ip link show twill0"); err == nil {
		t.Errorf("the device is still there: %s", out)
	}
	if out, _ := r.try("iptables-save"); strings.Contains(out, "TWILL") {
		t.Errorf("rules are still there:\n%s", out)
	}

	t.Log("the purge takes the rest")
	r.sh("dpkg -P twill")
	if left := r.leftovers(); len(left) > 0 {
		t.Errorf("left after the purge: %q", left)
	}
}

// A removal and a new installation leave the service as it was.
func TestDebReinstalled(t *testing.T) {
	r := newRoot(t)
	deb := r.put(debPath(t, newVersion, "amd64"))
	r.sh("dpkg --force-depends -i " + deb)
	r.sh("dpkg -r twill")
	r.sh("dpkg --force-depends -i " + deb)
	r.wantAll(true, enabled...)
}

// The manual pages can be found and read, the completions loaded.
func TestDebManualAndCompletions(t *testing.T) {
	r := newRoot(t)
	r.sh("dpkg --force-depends -i " + r.put(debPath(t, newVersion, "amd64")))
	for _, page := range []string{"1 twill", "1 twill-run", "1 twill-docker-opts", "8 twill.service", "5 twill-config", "5 twill-subnet.env"} {
		if warnings := r.sh("man --warnings " + page + " 2>&1 >/dev/null"); warnings != "" {
			t.Errorf("man %s: %s", page, warnings)
		}
	}
	for shell, script := range map[string]string{
		"bash": `. /usr/share/bash-completion/completions/twill; COMP_WORDS=(twill run --etcd-c); COMP_CWORD=2; _twill; echo "${COMPREPLY[@]}"`,
		"fish": `complete -C "twill run --etcd-c"`,
		"zsh":  `autoload -Uz compinit && compinit -D && echo $_comps[twill] && autoload +X _twill && functions _twill`,
	} {
		want := "--etcd-cafile"
		if shell == "zsh" {
			want = "_twill"
		}
		if got := r.sh(shell + " -c '" + script + "'"); !strings.Contains(got, want) {
			t.Errorf("%s completes to %q, want %s", shell, got, want)
		}
	}
}
