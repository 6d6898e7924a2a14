package systemtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"twill/internal/lab"
)

// Machine is a computer with a systemd of its own.
type Machine struct {
	Name string
	Addr netip.Addr // in the underlay

	run     string // Prepared.Run
	dir     string
	tun     string // node of the TUN driver
	nspawn  *exec.Cmd
	ended   chan struct{} // closed when nspawn has ended
	console bytes.Buffer
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

// Path is where the test finds a file of the machine.
func (m *Machine) Path(file string) string { return filepath.Join(m.path("root"), file) }

// unpack makes the machine's root directory: a view of the tree in which what is written goes to memory, like Docker's data,
// which cannot lie on a view.
func (m *Machine) unpack(p Prepared) error {
	for _, dir := range []string{"upper", "work", "root", "docker", "packages"} {
		if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", p.Tree, m.path("upper"), m.path("work"))
	if err := unix.Mount("overlay", m.path("root"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount a view of %s: %w", p.Tree, err)
	}
	for _, deb := range p.Packages {
		content, err := os.ReadFile(deb)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.path("packages"), filepath.Base(deb)), content, 0o644); err != nil {
			return err
		}
	}
	return m.furnish()
}

// furnish configures what an operator has configured before twill comes: a host name and a network.
func (m *Machine) furnish() error {
	for path, content := range map[string]string{
		"etc/hostname": m.Name + "\n",
		"etc/hosts":    "127.0.0.1 localhost\n" + m.Addr.String() + " " + m.Name + "\n",
		// Before systemd's own file for host0, which asks for DHCP.
		"etc/systemd/network/50-host0.network": fmt.Sprintf(
			"[Match]\nName=host0\n[Network]\nAddress=%s/%d\nGateway=%s\nLinkLocalAddressing=no\n", m.Addr, underlay.Bits(), Gateway),
		// systemd-nspawn mounts the control groups of version 1 for reading only; Docker makes some.
		"etc/systemd/system/control-groups.service": "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n" +
			"[Service]\nType=oneshot\nExecStart=sh -c 'for c in /sys/fs/cgroup/*; do mount -o remount,bind,rw $$c || true; done'\n",
	} {
		if err := os.WriteFile(m.Path(path), []byte(content), 0o644); err != nil {
			return err
		}
	}
	for link, unit := range map[string]string{
		"multi-user.target.wants/systemd-networkd.service":                 "/lib/systemd/system/systemd-networkd.service",
		"network-online.target.wants/systemd-networkd-wait-online.service": "/lib/systemd/system/systemd-networkd-wait-online.service",
		"sysinit.target.wants/control-groups.service":                      "/etc/systemd/system/control-groups.service",
	} {
		link = m.Path(filepath.Join("etc/systemd/system", link))
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(unit, link); err != nil {
			return err
		}
	}
	return nil
}

// PowerOn switches the machine on.
func (m *Machine) PowerOn() error {
	groups, err := makeCgroups(m.run + "-" + m.Name)
	if err != nil {
		return fmt.Errorf("switch %s on: %w", m.Name, err)
	}
	// The shell moves itself into the control groups and then becomes systemd-nspawn.
	m.nspawn = exec.Command("sh", "-c", `for g in $GROUPS_OF_MACHINE; do echo $$ >$g/cgroup.procs || exit 1; done; exec "$0" "$@"`,
		"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--machine="+m.Name, "--directory="+m.path("root"),
		"--network-bridge="+bridge, "--bind="+m.tun+":/dev/net/tun",
		"--bind="+m.path("docker")+":/var/lib/docker", "--bind-ro="+m.path("packages")+":/packages",
		"--capability=all", "--system-call-filter=@keyring bpf @mount") // what dockerd needs
	m.nspawn.Env = append(os.Environ(), "GROUPS_OF_MACHINE="+strings.Join(groups, " "))
	m.console.Reset()
	m.nspawn.Stdout, m.nspawn.Stderr = &m.console, &m.console
	if err := m.nspawn.Start(); err != nil {
		return fmt.Errorf("switch %s on: %w", m.Name, err)
	}
	m.ended = make(chan struct{})
	go func() {
		m.nspawn.Wait()
		close(m.ended)
	}()
	return nil
}

// Booted waits until systemd has started everything; units that failed are no error.
func (m *Machine) Booted(ctx context.Context) error {
	return lab.WaitFor(ctx, m.Name+" to boot", func() error {
		select {
		case <-m.ended:
			return fmt.Errorf("systemd-nspawn has ended; the console said:\n%s", m.console.String())
		default:
		}
		state, err := m.Run(ctx, "systemctl", "is-system-running")
		if state := strings.TrimSpace(state); state == "running" || state == "degraded" {
			return nil
		}
		return err // which the command has, too, in all other states
	})
}

// Boot is PowerOn and Booted.
func (m *Machine) Boot(ctx context.Context) error {
	if err := m.PowerOn(); err != nil {
		return err
	}
	return m.Booted(ctx)
}

// PowerOff shuts the machine down.
func (m *Machine) PowerOff(ctx context.Context) error {
	if _, err := m.Run(ctx, "systemctl", "poweroff"); err != nil {
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not power off: %w", m.Name, ctx.Err())
	}
}

// Reboot is PowerOff and Boot.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.PowerOff(ctx); err != nil {
		return err
	}
	return m.Boot(ctx)
}

// kill switches the machine off.
func (m *Machine) kill() {
	if m.ended == nil {
		return
	}
	m.nspawn.Process.Kill() // systemd goes with it (PR_SET_PDEATHSIG)
	<-m.ended
}

// leader returns the process id of the machine's process 1, which systemd-nspawn is the parent of.
func (m *Machine) leader() (int, error) {
	pid := m.nspawn.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, fmt.Errorf("%s is off: %w", m.Name, err)
	}
	fields := strings.Fields(string(children))
	if len(fields) != 1 {
		return 0, fmt.Errorf("%s has no process 1 yet", m.Name)
	}
	return strconv.Atoi(fields[0])
}

// commandPath is PATH of the commands on a machine.
const commandPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Run runs a command on the machine as root and returns what it printed. The error holds its messages, too.
func (m *Machine) Run(ctx context.Context, command ...string) (string, error) {
	leader, err := m.leader()
	if err != nil {
		return "", err
	}
	args := append([]string{"--target", strconv.Itoa(leader), "--all", "env", "-i", "PATH=" + commandPath, "HOME=/root", "LC_ALL=C.UTF-8"}, command...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	var messages strings.Builder
	cmd.Stderr = &messages
	output, err := cmd.Output()
	if err != nil {
		return string(output), fmt.Errorf("%s: %s: %w: %s%s", m.Name, strings.Join(command, " "), err, output, messages.String())
	}
	return string(output), nil
}

// Sh runs a line of shell on the machine.
func (m *Machine) Sh(ctx context.Context, line string) (string, error) {
	return m.Run(ctx, "sh", "-c", line)
}

// Namespace opens the network namespace of a process, by its id on the machine, with the address that others reach it at.
func (m *Machine) Namespace(name string, pid int, addr netip.Addr) (*lab.Namespace, error) {
	leader, err := m.leader()
	if err != nil {
		return nil, err
	}
	return lab.OpenNamespace(name, fmt.Sprintf("/proc/%d/root/proc/%d/ns/net", leader, pid), addr)
}

// Property returns a property of a unit, systemctl(1).
func (m *Machine) Property(ctx context.Context, unit, property string) (string, error) {
	value, err := m.Run(ctx, "systemctl", "show", "--value", "--property="+property, unit)
	return strings.TrimSpace(value), err
}

// Identifiers of journal entries about units, systemd's sd-messages.h.
const (
	unitStarting = "7d4958e842da4a758f6c1cdc7b36dcc5"
	unitStarted  = "39f53479d3a045ac8e11786248231fbf"
)

// JournalTime returns when, since the boot, systemd wrote its last entry of a kind about a unit to the journal of this boot.
func (m *Machine) JournalTime(ctx context.Context, unit, messageID string) (time.Duration, error) {
	entry, err := m.Sh(ctx, fmt.Sprintf("journalctl --quiet --boot --lines=1 --output=short-monotonic --output-fields=MESSAGE UNIT=%s MESSAGE_ID=%s", unit, messageID))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(entry, "[")
	seconds, _, closed := strings.Cut(rest, "]")
	at, err := strconv.ParseFloat(strings.TrimSpace(seconds), 64)
	if !found || !closed || err != nil {
		return 0, errors.Join(fmt.Errorf("%s: the journal has no entry %s about %s: %q", m.Name, messageID, unit, entry), err)
	}
	return time.Duration(at * float64(time.Second)), nil
}
