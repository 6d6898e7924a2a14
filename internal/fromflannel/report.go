package fromflannel

import (
	"fmt"
	"io"
	"strings"
)

// Etcd is how flanneld reaches etcd.
type Etcd struct {
	Endpoints, Prefix         string
	CAFile, CertFile, KeyFile string
	Username, Password        string
}

// Etcd returns the settings with which to ask the same etcd.
func (s Settings) Etcd() Etcd {
	return Etcd{
		Endpoints: s.get("etcd-endpoints"), Prefix: s.get("etcd-prefix"),
		CAFile: s.get("etcd-cafile"), CertFile: s.get("etcd-certfile"), KeyFile: s.get("etcd-keyfile"),
		Username: s.get("etcd-username"), Password: s.get("etcd-password"),
	}
}

// Host is one that holds a lease.
type Host struct {
	Address string // where others send to
	Subnet  string
	Node    string // its name, which twill's hosts tell
	Twill   bool   // it has been moved already
}

// Write prints the plan: everything but the settings as comments, so that the whole can be saved as the settings file.
func (p Plan) Write(w io.Writer, source string, hosts []Host) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Settings of twill that do what %s does.\n# To go into /etc/default/twill (Debian) or /etc/sysconfig/twill (Red Hat).\n\n", source)
	if len(p.Blockers) > 0 {
		section(&b, "THIS HOST CANNOT BE MOVED", p.Blockers)
	}
	for _, line := range p.Settings {
		fmt.Fprintln(&b, line)
	}
	if len(p.Settings) == 0 {
		fmt.Fprintln(&b, "# None: twill's defaults do it.")
	}
	fmt.Fprintln(&b)
	if len(p.CommandLine) > 0 {
		section(&b, "More values than a variable holds; `systemctl edit twill` and add", []string{
			"[Service]", "ExecStart=", "ExecStart=/usr/bin/twill run " + strings.Join(p.CommandLine, " "),
		})
	}
	section(&b, "What differs", p.Differences)
	section(&b, "How to move the cluster, one host after the other; moved and unmoved hosts talk to each other all the time", order)
	if len(hosts) > 0 {
		section(&b, "The hosts", hostLines(hosts))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, title string, lines []string) {
	fmt.Fprintf(b, "# %s:\n", title)
	for _, line := range lines {
		fmt.Fprintf(b, "#   %s\n", line)
	}
	fmt.Fprintln(b)
}

// order is that of docs/migrate-from-flannel.md.
var order = []string{
	"1. Let UDP from any port to the network's port (8285) through between the hosts: twill uses several source ports.",
	"2. On one host: install twill and write its settings.",
	"3. systemctl disable flanneld    (does not stop it; Docker no longer requires it)",
	"4. rm -f /etc/systemd/system/docker.service.d/flannel.conf; systemctl daemon-reload",
	"5. systemctl stop flanneld && systemctl enable --now twill    (the pause: a second or two)",
	"6. twill status; twill peers; ping a container on another host from one on this",
	"   The subnet is the same as before, so containers and Docker's bridge go on as they are.",
	"7. Go on with the next host. Back: systemctl disable --now twill && twill down && systemctl enable --now flanneld",
	"8. At the end, or with the next reboot: remove Flannel and its iptables chains FLANNEL-POSTRTG and FLANNEL-FWD.",
}

func hostLines(hosts []Host) []string {
	var lines []string
	for _, h := range hosts {
		state := "to be moved"
		if h.Twill {
			state = "moved: runs twill as " + h.Node
		}
		lines = append(lines, fmt.Sprintf("%-15s  %-18s  %s", h.Address, h.Subnet, state))
	}
	return lines
}
