//go:build packages

package packaging

import (
	"os"
	"strings"
	"testing"
)

// Nothing that an RPM asks for is in a Debian's package database; --nodeps it is. `rpm -q --requires` is looked at below.
func TestRpm(t *testing.T) {
	r := newRoot(t)
	r.sh("mkdir -p /etc/systemd/system-preset && echo 'disable *' >/etc/systemd/system-preset/99-default.preset") // as Fedora has it
	r.sh("rpm --initdb && rpm -i --nodeps " + r.put(rpmPath(t, oldVersion, "x86_64")))
	r.wantAll(true, shipped...)
	r.wantAll(false, enabled...)
	r.wantAll(true, "/etc/sysconfig/twill", "/usr/share/licenses/twill/LICENSE", "/usr/share/zsh/site-functions/_twill")
	r.wantAll(false, "/etc/default/twill")
	if got := r.sh("twill version"); !strings.HasPrefix(got, "twill "+oldVersion+" ") {
		t.Errorf("twill version says %q, want %s", got, oldVersion)
	}
	r.sh("getent passwd twill && getent group twill")
	if got := r.sh("rpm -q --configfiles twill"); got != "/etc/sysconfig/twill\n" {
		t.Errorf("config files %q", got)
	}
	if got := r.sh("rpm -q --requires twill"); !strings.Contains(got, "systemd") {
		t.Errorf("requires %q, want systemd", got)
	}

	t.Log("an upgrade keeps the settings, an enabled service, device, rules and state")
	r.sh("echo TWILL_ETCD_ENDPOINTS=http://192.0.2.1:2379 >/etc/sysconfig/twill && systemctl enable twill.service")
	r.sh(made)
	r.sh("rpm -U --nodeps " + r.put(rpmPath(t, newVersion, "x86_64")))
	if got := must(os.ReadFile(r.path("/etc/sysconfig/twill")))(t); string(got) != "TWILL_ETCD_ENDPOINTS=http://192.0.2.1:2379\n" {
		t.Errorf("the settings are %q after an upgrade", got)
	}
	if got := r.sh("twill version"); !strings.HasPrefix(got, "twill "+newVersion+" ") {
		t.Errorf("twill version says %q, want %s", got, newVersion)
	}
	r.wantAll(true, enabled...)
	r.sh("ip link show twill0 && iptables -S TWILL-FWD-twill0 && test -e /run/twill/subnet.env")

	t.Log("the removal takes device, route and rules away")
	r.sh("rpm -e twill")
	r.wantAll(false, shipped...)
	r.wantAll(false, enabled...)
	if out, err := r.try("ip link show twill0"); err == nil {
		t.Errorf("the device is still there: %s", out)
	}
	if out, _ := r.try("iptables-save"); strings.Contains(out, "TWILL") {
		t.Errorf("rules are still there:\n%s", out)
	}
}

// What the scripts tell a running systemd, here a program that notes it.
func TestRpmUnderSystemd(t *testing.T) {
	r := newRoot(t)
	r.sh(`mkdir -p /run/systemd/system && rm /usr/bin/systemctl &&
		printf '#!/bin/sh\necho "$*" >>/run/calls\n' >/usr/bin/systemctl && chmod +x /usr/bin/systemctl`)
	told := func(line string, want ...string) {
		t.Helper()
		out := r.sh("rm -f /run/calls; " + line)
		if got := r.sh("cat /run/calls"); got != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s: systemctl was told\n%s, want\n%s", line, got, strings.Join(want, "\n"))
		}
		if asks := strings.Contains(out, "set TWILL_ETCD_ENDPOINTS"); asks != strings.Contains(line, "rpm -i") {
			t.Errorf("%s: says what to do next: %v; it printed %q", line, asks, out)
		}
	}
	told("rpm --initdb && rpm -i --nodeps "+r.put(rpmPath(t, oldVersion, "x86_64")),
		"--no-reload preset twill.service", "daemon-reload")
	told("rpm -U --nodeps "+r.put(rpmPath(t, newVersion, "x86_64")),
		"daemon-reload", "daemon-reload", "--no-block try-restart twill.service")
	told("rpm -e twill",
		"--no-reload disable --now twill.service", "daemon-reload")

	t.Log("the same by Fedora's systemd-update-helper, which enables and disables")
	r.sh(`printf '#!/bin/sh\necho "helper $*" >>/run/calls\n' >/usr/lib/systemd/systemd-update-helper &&
		chmod +x /usr/lib/systemd/systemd-update-helper`)
	told("rpm -i --nodeps "+r.put(rpmPath(t, newVersion, "x86_64")),
		"helper install-system-units twill.service", "daemon-reload")
	told("rpm -e twill",
		"helper remove-system-units twill.service", "daemon-reload")
}
