package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"twill/internal/lab"
	"twill/subnet"
)

// cniDir is where Debian's containernetworking-plugins are.
const cniDir = "/usr/lib/cni"

// Containers that the CNI plugins bridge and host-local connect, as docs/cni.md has it, reach each other across hosts with
// packets of the tunnel's whole MTU.
func TestCNI(t *testing.T) {
	if _, err := os.Stat(filepath.Join(cniDir, "bridge")); err != nil {
		t.Fatalf("%v; install containernetworking-plugins", err)
	}
	c := newCluster(t, 2, network(testNetwork))
	var containers []*cniContainer
	for i, h := range c.Hosts {
		c.start(h, "--ip-masq")
		env, err := subnet.ReadEnv(h.EnvFile())
		c.must(err)
		container := &cniContainer{host: h, name: fmt.Sprintf("cni%d", i), dir: t.TempDir(), env: env}
		container.add(t)
		containers = append(containers, container)
	}
	from, to := containers[0], containers[1]
	if !from.env.Subnet.Masked().Contains(from.address()) {
		t.Errorf("host-local gave %s, want one of %s", from.address(), from.env.Subnet.Masked())
	}
	const headers = 20 + 8 // IPv4 and ICMP
	c.waitFor("a ping across", func() error {
		_, err := from.do("ip", "netns", "exec", from.name, "ping", "-c", "1", "-W", "1", "-M", "do",
			"-s", fmt.Sprint(from.env.MTU-headers), to.address().String())
		return err
	})
	for _, container := range containers {
		container.plugin(t, "DEL")
	}
}

// documentedCNI returns the plugin's part of the second conflist in docs/cni.md with a host's values, and keeps
// host-local's state in dataDir.
func documentedCNI(t *testing.T, env subnet.Env, dataDir string) []byte {
	t.Helper()
	page, err := os.ReadFile("docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d conflists in docs/cni.md, want 2", len(blocks))
	}
	text := strings.NewReplacer("10.5.72.0/24", env.Subnet.Masked().String(), "1472", fmt.Sprint(env.MTU)).Replace(blocks[1][1])
	var list struct {
		CNIVersion string
		Name       string
		Plugins    []map[string]any
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("docs/cni.md: %v", err)
	}
	plugin := list.Plugins[0]
	plugin["cniVersion"], plugin["name"] = list.CNIVersion, list.Name // as a runtime does
	plugin["ipam"].(map[string]any)["dataDir"] = dataDir              // else /var/lib/cni of this machine
	out, err := json.Marshal(plugin)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A cniContainer is a network namespace on a host that a CNI plugin connects.
type cniContainer struct {
	host   *lab.Host
	name   string // of the namespace and the container
	dir    string // of host-local's state
	env    subnet.Env
	result struct {
		IPs []struct{ Address netip.Prefix }
	}
}

// add makes the namespace and connects it.
func (c *cniContainer) add(t *testing.T) {
	t.Helper()
	if _, err := c.do("ip", "netns", "add", c.name); err != nil {
		t.Fatal(err)
	}
	out := c.plugin(t, "ADD")
	if err := json.Unmarshal(out, &c.result); err != nil || len(c.result.IPs) != 1 {
		t.Fatalf("the plugin answers %s, %v; want one address", out, err)
	}
}

func (c *cniContainer) address() netip.Addr { return c.result.IPs[0].Address.Addr() }

// plugin runs bridge, which calls host-local, with the conflist's values, on the host.
func (c *cniContainer) plugin(t *testing.T, command string) []byte {
	t.Helper()
	// The plugin looks for its own threads in /proc, which is that of the lab's outside.
	cmd := exec.Command("unshare", "--mount", "sh", "-c", "mount -t proc proc /proc && exec "+filepath.Join(cniDir, "bridge"))
	cmd.Env = append(os.Environ(),
		"CNI_COMMAND="+command, "CNI_CONTAINERID="+c.name, "CNI_NETNS=/run/netns/"+c.name, "CNI_IFNAME=eth0", "CNI_PATH="+cniDir)
	cmd.Stdin = bytes.NewReader(documentedCNI(t, c.env, c.dir))
	out, err := c.output(cmd)
	if err != nil {
		t.Fatalf("CNI %s: %v: %s", command, err, out)
	}
	return out
}

// do runs a program on the host.
func (c *cniContainer) do(line ...string) ([]byte, error) {
	out, err := c.output(exec.Command(line[0], line[1:]...))
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(line, " "), err, out)
	}
	return out, nil
}

func (c *cniContainer) output(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := c.host.Do(cmd.Start); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return out.Bytes(), err
}
