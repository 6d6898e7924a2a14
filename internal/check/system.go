package check

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

func prefixOf(a netlink.Addr) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(a.IP.To4())
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(addr, bits), ok
}

// portUsers names the processes that have a UDP port bound at addr, or at any
// address; a process that cannot be told is "another process".
func portUsers(port uint16, addr netip.Addr) (users []string) {
	if port == 0 {
		return nil
	}
	raw, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	for _, inode := range boundInodes(string(raw), port, addr) {
		if user := processOf(inode); !seen[user] {
			seen[user] = true
			users = append(users, user)
		}
	}
	return users
}

// boundInodes reads /proc/net/udp, proc_net_udp(5): the second column is address
// and port in hex, the address in host order, the tenth the inode.
func boundInodes(text string, port uint16, addr netip.Addr) (inodes []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		host, number, ok := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(number, 16, 16)
		raw, errHost := hex.DecodeString(host)
		if !ok || err != nil || errHost != nil || len(raw) != 4 || uint16(n) != port {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], binary.BigEndian.Uint32(raw))
		if bound := netip.AddrFrom4(b); bound == addr || bound.IsUnspecified() || !addr.IsValid() {
			inodes = append(inodes, f[9])
		}
	}
	return inodes
}

// processOf names the process that has the socket with an inode.
func processOf(inode string) string {
	want := "socket:[" + inode + "]"
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err == nil {
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
		}
	}
	return "another process"
}

// gatherSystemd asks systemd about twill's unit and Docker's.
func (f *Facts) gatherSystemd(ctx context.Context) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	twill := show(ctx, "twill.service", "LoadState", "UnitFileState")
	if len(twill) == 0 {
		return
	}
	f.Systemd.Runs = true
	if twill["LoadState"] != "loaded" {
		return
	}
	f.Systemd.Enabled = twill["UnitFileState"]
	docker := show(ctx, "docker.service", "LoadState", "After", "DropInPaths")
	f.Systemd.Docker = docker["LoadState"] == "loaded"
	f.Systemd.DockerAfter = strings.Contains(" "+docker["After"]+" ", " twill.service ")
	f.Systemd.DockerArgs = strings.Contains(docker["DropInPaths"], "zz-twill.conf")
}

// show asks systemctl for properties of a unit; it is empty where systemd does not
// answer.
func show(ctx context.Context, unit string, properties ...string) map[string]string {
	out, err := exec.CommandContext(ctx, "systemctl", "show", unit, "-p", strings.Join(properties, ",")).Output()
	if err != nil {
		return nil
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	return values
}
